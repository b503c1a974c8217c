#!/usr/bin/env bash
# Makes sure that PostgreSQL's programs are there: the tests start servers of their own and need no running one.
set -euo pipefail

installed() { command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

if installed; then exit 0; fi
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  echo "installing PostgreSQL"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql
  installed && exit 0
fi
echo "PostgreSQL is missing: the tests need initdb and pg_ctl on PATH or in /usr/lib/postgresql/*/bin." >&2
echo "Install your system's PostgreSQL server package (Debian, Ubuntu: sudo apt-get install postgresql)." >&2
exit 1
