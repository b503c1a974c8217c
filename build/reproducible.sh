#!/usr/bin/env bash
# Builds the last commit in two clones with different paths and compares the binaries. Both builds take compiled dependencies from the
# cache, which finds out whatever depends on the path, the checkout or its version. With COLD=1 the second one has an empty cache,
# so that every compilation is compared too.
set -euo pipefail

if [[ -n $(git status --porcelain) ]]; then
  echo "note: this builds the last commit; what is not committed is left out"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The module cache has another path each time too, as on another machine.
build() { # DIRECTORY
  mkdir -p "$(dirname "$1")"
  git clone --quiet . "$1"
  ln -s "$modules" "$1.modules"
  GOMODCACHE="$1.modules" make --silent -C "$1" build BUILDVCS=true
}

modules=$(go env GOMODCACHE)
echo "first build"
build "$work/one"
echo "second build${COLD:+, which compiles every dependency: some minutes}"
if [[ -n ${COLD:-} ]]; then export GOCACHE=$work/cache; fi
build "$work/another/place"

first=$(sha256sum <"$work/one/bin/extauthz") second=$(sha256sum <"$work/another/place/bin/extauthz")
"$work/one/bin/extauthz" version
if [[ $first != "$second" ]]; then
  echo "the builds differ: sha256 ${first%% *} and ${second%% *}" >&2
  diff <(go version -m "$work/one/bin/extauthz" | tail -n +2) <(go version -m "$work/another/place/bin/extauthz" | tail -n +2) >&2
  exit 1
fi
echo "sha256 ${first%% *}"
