#!/usr/bin/env bash
# Runs each fuzz target of the module for FUZZTIME. A crash leaves its input in testdata/fuzz: commit it as a test.
set -euo pipefail

mapfile -t packages < <(grep -rl --include='*_test.go' '^func Fuzz' cmd internal pkg | xargs -r -n1 dirname | sort -u)
if [[ ${#packages[@]} -eq 0 ]]; then
  echo "no fuzz target was found" >&2
  exit 1
fi
# What the fuzzer finds interesting is kept between runs, where `go test -fuzz` keeps it too.
corpus=$(go env GOCACHE)/fuzz/$(go list -m)
for package in "${packages[@]}"; do
  # Built once for all its targets: the instrumented build is most of a short run.
  binary=$PWD/.cache/fuzz/${package//\//_}.test
  go test -c -fuzz=. -o "$binary" "./$package"
  for target in $(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$package"/*_test.go); do
    echo "== $package $target"
    (cd "$package" && "$binary" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "${FUZZTIME:-10s}" \
      -test.fuzzcachedir "$corpus/$package")
  done
done
