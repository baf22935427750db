# Sallyport: `make help` lists what this can do. Everything installs what it needs (scripts/install.sh).
SHELL := /usr/bin/env bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO    ?= go
TOOL  := $(GO) tool -modfile=scripts/tools.mod
# The packages in which goroutines meet; the rest is pure or covered through these.
RACE  := ./pkg/tunnel/... ./pkg/exchange/... ./pkg/registry/... ./pkg/change/... ./pkg/audit/... ./pkg/access/... \
         ./pkg/control/... ./pkg/connector/... ./pkg/proxy/... ./pkg/ingress/... ./pkg/run/... ./pkg/cluster/...
FUZZTIME ?= 10s

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## run a clinic and an edge here and open OSCAR through them (ORIGIN=https://host:port for your own server)
	@scripts/install.sh demo
	@scripts/demo.sh $(if $(ORIGIN),--origin "$(ORIGIN)")

.PHONY: demo-cluster
demo-cluster: ## three edges on PostgreSQL and two clinics; breaks each part under a load and prints what failed (DEMO="-rounds 20")
	@scripts/install.sh cluster
	@scripts/demo.sh -cluster $(DEMO)

.PHONY: test
test: ## every test but the slow ones; fails on a skip that .ci/skips does not list
	@scripts/install.sh test
	@$(GO) test -json -timeout 540s ./... | $(GO) run ./scripts/testreport -skips .ci/skips

.PHONY: race
race: ## the packages in which goroutines meet, under the race detector
	@scripts/install.sh race
	@CGO_ENABLED=1 $(GO) test -race -p 1 -json -timeout 540s $(RACE) | $(GO) run ./scripts/testreport -skips .ci/skips

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (10s)
	@scripts/fuzz.sh "$(FUZZTIME)"

.PHONY: bench
bench: ## figures as ratios of one run, beside peers found on PATH; BENCH="-only path" runs a part (-help lists more)
	@scripts/install.sh test
	@$(GO) run ./scripts/bench $(BENCH)

.PHONY: lint
lint: ## golangci-lint at its pinned version
	@$(TOOL) golangci-lint run ./...

.PHONY: generate
generate: ## protocol code from proto/
	@scripts/generate.sh

.PHONY: verify
verify: ## generated code, formatting and go.mod are current
	@scripts/verify.sh

.PHONY: build
build: ## bin/edge and bin/connector, static
	@mkdir -p bin
	@CGO_ENABLED=0 $(GO) build -buildvcs=auto -trimpath -ldflags '-s -w' -o bin/ ./cmd/edge ./cmd/connector

.PHONY: clean
clean: ## what the other targets made
	@rm -rf bin .demo
