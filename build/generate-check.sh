#!/usr/bin/env bash
# Fails if a generated file differs from what is committed, or is not committed at all. Run it after `make generate`.
set -euo pipefail

generated=('*.pb.go' docs/configuration.md third_party/licenses.csv docs/benchmarks.md 'docs/benchmarks/*.svg')
if ! git diff --exit-code --stat -- "${generated[@]}"; then
  echo "generated files were out of date: commit what \`make generate\` wrote" >&2
  exit 1
fi
new=$(git ls-files --others --exclude-standard -- "${generated[@]}")
if [[ -n $new ]]; then
  echo "generated files are not committed: $new" >&2
  exit 1
fi
echo "generated files are up to date"
