#!/usr/bin/env bash
# Installs Keycloak VERSION in DIR, ready for `start --optimized`: `build/keycloak.sh VERSION DIR`. It is built with its database in
# memory: a test's server starts empty, leaves nothing behind, and is up sooner.
set -euo pipefail
version=$1 dir=$2

rm -rf "$dir"
mkdir -p "$dir"
mvn -B -q -C org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
  -Dartifact="org.keycloak:keycloak-quarkus-dist:$version:zip" -DoutputDirectory="$(realpath "$dir")"
python3 -m zipfile -e "$dir/keycloak-quarkus-dist-$version.zip" "$dir"
rm "$dir/keycloak-quarkus-dist-$version.zip"
mv "$dir/keycloak-$version"/* "$dir"
rmdir "$dir/keycloak-$version"
sh "$dir/bin/kc.sh" build --db=dev-mem --health-enabled=true
