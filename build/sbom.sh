#!/usr/bin/env bash
# Writes bin/extauthz.cdx.json, a CycloneDX list of what is in bin/extauthz, and checks it and third_party/licenses.csv against
# what Go's linker recorded. The same binary gives the same file: it holds no time, serial number or machine. CYCLONEDX_GOMOD comes
# from the Makefile.
set -euo pipefail

"$CYCLONEDX_GOMOD" bin -json -std -noserial -notimestamp -output bin/extauthz.cdx.json bin/extauthz
go version -m -json bin/extauthz | python3 -c '
import csv, json, sys

info = json.load(sys.stdin)
sbom = json.load(open("bin/extauthz.cdx.json"))
for tool in sbom["metadata"]["tools"]:
    tool.pop("hashes", None)  # of the tool as it was compiled on this machine
with open("bin/extauthz.cdx.json", "w") as out:
    json.dump(sbom, out, indent=2)
    out.write("\n")

linked = {(m["Path"], m["Version"]) for m in (d.get("Replace", d) for d in info["Deps"])} | {("std", info["GoVersion"])}
listed = {(c["name"], c["version"]) for c in sbom["components"]}
problems = [f"{m} {v} is linked but not in the SBOM" for m, v in sorted(linked - listed)]
problems += [f"{m} {v} is in the SBOM but not linked" for m, v in sorted(listed - linked)]
licensed = {row["module"] for row in csv.DictReader(open("third_party/licenses.csv"))}
unlicensed = {d["Path"] for d in info["Deps"]} - licensed
problems += [f"{m} is linked but not in third_party/licenses.csv: run `make generate`" for m in sorted(unlicensed)]
if problems:
    sys.exit("\n".join(problems))
print(f"bin/extauthz.cdx.json: {len(listed)} modules, as linked, each with a license in third_party/licenses.csv")
'
