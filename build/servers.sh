#!/usr/bin/env bash
# Makes sure that programs of the system are there, which the tests start for themselves: `build/servers.sh NAME...`. What is
# missing is installed when this is run as root on Debian; elsewhere it says what to install.
set -euo pipefail

declare -A package=([postgresql]=postgresql [redis]=redis-server [java]=default-jre-headless [maven]=maven)

installed() {
  case $1 in
  postgresql) command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' ;;
  redis) command -v redis-server ;;
  java) command -v java ;;
  maven) command -v mvn ;;
  esac >/dev/null
}

# Sets missing to those of its arguments that are not installed.
look() {
  missing=()
  for name in "$@"; do installed "$name" || missing+=("$name"); done
}

look "$@"
if [[ ${#missing[@]} -gt 0 && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]}"
  apt-get update -qq
  for name in "${missing[@]}"; do
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${package[$name]}"
  done
  look "$@"
fi
for name in "${missing[@]}"; do
  echo "$name is missing: install your system's package (Debian, Ubuntu: sudo apt-get install ${package[$name]})." >&2
done
[[ ${#missing[@]} == 0 ]]
