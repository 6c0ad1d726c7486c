# Everything runs with Go alone; see CONTRIBUTING.md for what the servers need.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The servers of `make demo`: mysql or mariadb. The rows it moves: empty for its default.
SERVER ?= mysql
ROWS ?=
# How often `make stress` kills, and the origin of its choices: empty for its defaults.
KILLS ?=
SEED ?=
# How long `make fuzz` runs each fuzz test.
FUZZTIME ?= 60s
export SERVER ROWS KILLS SEED FUZZTIME
# BENCH=quick shortens `make bench`.
BENCH ?=
# How long `make stress-verify` writes and compares.
DURATION ?= 30m

TOOL := go tool -modfile=tools/go.mod

.PHONY: help demo tenants-demo test test-long test-browser bench stress fidelity lint fmt model fuzz mutations stress-verify clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## move a live shop between two real servers (SERVER=mysql|mariadb, ROWS=n)
	@go run ./test/demo

tenants-demo: ## move eight tenants of shared tables at once while all are written (SERVER, ROWS=n a tenant)
	@go run ./test/tenants/demo

test: ## vet and all tests, on real servers (fetched once, about 150 MB)
	@go run ./test/servers/cmd/servers prepare
	@go run ./test/runner -race=false -tags trace ./test/trace
	@go run ./test/runner -p 2 -split ./test/integration ./test/tenants ./test/stress ./...

test-long: export GHOSTFERRY_FULL_TESTS = 1
test-long: test ## the same with every case on every setting, each failpoint on both flavours

bench: ## compare with other movers on this machine; results in bench/results/ (BENCH=quick: in some minutes, BENCH=cutover: write blocks, BENCH=adaptive: what a copy costs the application)
ifeq ($(BENCH),cutover)
	@go run ./bench/cutover -flavour mysql
	@go run ./bench/cutover -flavour mariadb
else ifeq ($(BENCH),adaptive)
	@go run ./bench/adaptive
else
	@go run ./bench $(if $(filter quick,$(BENCH)),-quick -patience 5s)
endif

stress: ## kill mover and servers again and again until the move arrives (SERVER, KILLS=n, SEED=n)
	@go run ./test/stress

fidelity: ## every kind of value and key by every road between all pairs of servers (PAIR, CASE)
	@go run ./test/fidelity

lint: ## golangci-lint (built from source the first time: some minutes)
	@$(TOOL) golangci-lint run ./...

fmt: ## format the code
	@gofmt -w $$(git ls-files -co --exclude-standard '*.go')

model: ## check the engine's algorithm exhaustively
	@go run ./internal/model/cmd/model

fuzz: ## run every fuzz test for a while (FUZZTIME=60s); make test runs their seeds
	@go run ./test/fuzz

mutations: ## change rows behind a move's back and see that every verifier names them
	@go run ./test/mutations

stress-verify: ## move a written shop under all verifiers, count false alarms (DURATION=30m)
	@go run ./test/mutations -stress $(DURATION)

test-browser: ## the control server's page in a real Chromium (fetched once, about 150 MB); pictures in test/browser/out/
	@go run ./test/runner -race=false -tags browser -timeout 25m ./test/browser

clean: ## remove built files, the servers' cache and benchmark results
	@rm -rf bin .servers bench/results test/browser/out
