#!/usr/bin/env bash
# Writes bin/image, an OCI image in a directory: bin/extauthz, its SBOM and licenses, root certificates and the user 65532. Then it
# pushes what it wrote to a registry, and starts it. The same files give the same image. CRANE and CERTIFICATES come from the Makefile.
set -euo pipefail

platform=$(go version -m bin/extauthz | sed -nE 's/.*GOOS=//p')/$(go version -m bin/extauthz | sed -nE 's/.*GOARCH=//p')
if [[ $platform != linux/* ]]; then
  echo "bin/extauthz is for $platform, and an image holds a program for Linux: run this on Linux" >&2
  exit 1
fi
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

crane() { # tells about each blob, which is of interest only if it fails
  "$CRANE" "$@" 2>"$work/crane.log" || { cat "$work/crane.log" >&2 && return 1; }
}

wait_for() { # FILE PATTERN: waits for a line that matches, and prints the pattern's group
  for ((try = 0; try < 100; try++)); do
    if grep -qsE "$2" "$1"; then sed -nE "s/.*$2.*/\1/p" "$1" && return; fi
    sleep 0.1
  done
  echo "no line like $2 after 10 s:" >&2
  cat "$1" >&2
  return 1
}

# crane edits an image in a registry only. This one is on loopback and in memory.
"$CRANE" registry serve --address 127.0.0.1:0 >"$work/registry.log" 2>&1 &
registry=127.0.0.1:$(wait_for "$work/registry.log" 'serving on port ([0-9]+)')

files=$work/files
install -D -m 0755 bin/extauthz "$files/usr/local/bin/extauthz"
install -D -m 0644 bin/extauthz.cdx.json "$files/usr/share/doc/extauthz/extauthz.cdx.json"
cp -r bin/licenses "$files/usr/share/doc/extauthz/licenses"
install -D -m 0644 "$CERTIFICATES" "$files/etc/ssl/certs/ca-certificates.crt"
install -D -m 0644 "$(dirname "$CERTIFICATES")"/../certifi-*.dist-info/licenses/LICENSE "$files/usr/share/doc/extauthz/licenses/certifi/LICENSE"
echo 'extauthz:x:65532:65532::/:/sbin/nologin' >"$files/etc/passwd"
echo 'extauthz:x:65532:' >"$files/etc/group"
tar --create --file "$work/layer.tar" --directory "$files" --sort name --mtime @0 --owner 0 --group 0 --numeric-owner --mode u=rwX,go=rX .

crane append --oci-empty-base --new_layer "$work/layer.tar" --new_tag "$registry/extauthz:files" >/dev/null
crane mutate "$registry/extauthz:files" --tag "$registry/extauthz:image" --set-platform "$platform" \
  --user 65532:65532 --workdir / --entrypoint /usr/local/bin/extauthz >/dev/null
rm -rf bin/image
crane pull --format oci "$registry/extauthz:image" bin/image

echo "checking bin/image"
crane push bin/image "$registry/extauthz:check" >/dev/null
mkdir "$work/root"
crane export "$registry/extauthz:check" - | tar --extract --directory "$work/root" --no-same-owner
crane config "$registry/extauthz:check" | python3 -c '
import json, ssl, sys

config = json.load(sys.stdin)["config"]
assert config["User"] == "65532:65532" and config["Entrypoint"] == ["/usr/local/bin/extauthz"], config
roots = ssl.create_default_context(cafile=sys.argv[1] + "/etc/ssl/certs/ca-certificates.crt").get_ca_certs()
assert len(roots) > 100, roots
' "$work/root"
cat >"$work/root/extauthz.yaml" <<'CONFIG'
server: {address: 127.0.0.1:0}
telemetry: {address: 127.0.0.1:0}
store: {url: none}
issuers: [{issuer: https://127.0.0.1:1, audiences: [none]}]
mapping: {claim: sub, no_match: reject}
CONFIG
chmod -R u=rwX,go=rX "$work/root"
if [[ $(id -u) == 0 ]]; then
  inside=(chroot --userspec 65532:65532 "$work/root")
else
  inside=(unshare --user --root "$work/root")
fi
"${inside[@]}" /usr/local/bin/extauthz serve --config /extauthz.yaml >"$work/serve.log" 2>&1 &
server=$!
telemetry=$(wait_for "$work/serve.log" '"telemetry":"([0-9.:]+)"')
curl --silent --show-error --fail "http://$telemetry/livez" >/dev/null
kill -TERM "$server"
wait "$server"
echo "bin/image: started as a user without rights; for $platform, $(sed -nE 's/.*"digest": "(.*)",/\1/p' bin/image/index.json)"
