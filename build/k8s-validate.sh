#!/usr/bin/env bash
# Renders each kustomization and checks the objects, and Istio's file for syntax. Unknown fields are errors.
# KUSTOMIZE, VALIDATE and KUBERNETES_VERSION come from the Makefile.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for kustomization in deploy/k8s/base deploy/k8s/overlays/*/; do
  echo "== $kustomization"
  "$KUSTOMIZE" build "$kustomization" >"$work/rendered.yaml"
  "$VALIDATE" -k "$KUBERNETES_VERSION" --strict "$work/rendered.yaml"
done
echo "== deploy/envoy/istio.yaml (YAML only: Istio's types are not part of Kubernetes)"
"$(dirname "$VALIDATE")/python" - <<'PYTHON'
import yaml
objects = [o for o in yaml.safe_load_all(open("deploy/envoy/istio.yaml")) if o]
for o in objects:
    print(f"{o['kind']}/{o['metadata']['name']} parsed")
PYTHON
