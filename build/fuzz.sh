#!/usr/bin/env bash
# Runs each fuzz target of the module for FUZZTIME. A crash leaves its input in testdata/fuzz: commit it as a test.
set -euo pipefail

mapfile -t files < <(grep -rl --include='*_test.go' '^func Fuzz' cmd internal pkg)
for file in "${files[@]}"; do
  package=./$(dirname "$file")
  for target in $(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$file"); do
    echo "== $package $target"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" "$package"
  done
done
