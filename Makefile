# Everything runs with Go alone; see CONTRIBUTING.md for what the servers need.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The servers of `make demo`, `make tenants-demo` and `make stress`: mysql or mariadb.
SERVER ?= mysql
# The rows that the demos move, of each tenant in the second: empty for their defaults.
ROWS ?=
# How often `make stress` kills, and the origin of its choices: empty for its defaults.
KILLS ?=
SEED ?=
# How long `make fuzz` runs each fuzz test.
FUZZTIME ?= 60s
# What `make fidelity` moves: empty for all. PAIR is "MySQL, GTIDs", "MySQL, file positions", "MariaDB",
# "MySQL to MariaDB" or "MariaDB to MySQL"; CASE a regular expression for cases, such as "keys/.*UUID".
PAIR ?=
CASE ?=
export SERVER ROWS KILLS SEED FUZZTIME PAIR CASE
# What `make bench` measures: quick, cutover, adaptive, or empty for everything.
BENCH ?=
# How long `make stress-verify` writes and compares.
DURATION ?= 30m

TOOL := go tool -modfile=tools/go.mod

.PHONY: help demo tenants-demo test test-long test-browser bench stress fidelity lint fmt model fuzz mutations stress-verify clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2} /^## / {printf "  %18s %s\n", "", substr($$0, 4)}' $(MAKEFILE_LIST)

demo: ## move a live shop between two real servers (SERVER=mysql|mariadb, ROWS=n)
	@go run ./test/demo

tenants-demo: ## move eight tenants of shared tables at once while all are written (SERVER, ROWS=n a tenant)
	@go run ./test/tenants/demo

# The compiler, the linker and vet collect garbage less often, also for programs that tests build;
# tests and what they start do not.
test: export GOFLAGS = '-toolexec=env GOGC=400' $(shell go env GOFLAGS)
test: ## vet and the tests, on real servers (fetched once, about 150 MB); 10 to 15 minutes on two processors
	@go run ./test/servers/cmd/servers prepare
	@go run ./test/runner -race=false -tags trace ./test/trace
	@go run ./test/runner -p 2 -split ./test/integration ./test/tenants ./test/stress ./...

test-long: export GHOSTFERRY_FULL_TESTS = 1
test-long: test ## the same with every case on every setting, each failpoint on both flavours

bench: ## compare with other movers on this machine (hours, 20 GB of disk); results in bench/results/
## BENCH=quick: less than 12 minutes on two processors
## BENCH=cutover: how long the writers are blocked
## BENCH=adaptive: what a copy costs the application
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

fidelity: ## every kind of value and key by every road between all pairs of servers
## PAIR="MySQL to MariaDB": one pair; CASE=keys/: cases by a regular expression
	@go run ./test/fidelity

lint: ## golangci-lint (built from source the first time: some minutes)
	@$(TOOL) golangci-lint run ./...

fmt: ## format the code
	@gofmt -w $$(git ls-files -co --exclude-standard '*.go')

model: ## check the engine's algorithm exhaustively (four minutes, 5 GB of memory)
	@go run ./internal/model/cmd/model

fuzz: ## run every fuzz test for a while (FUZZTIME=60s); make test runs their seeds
	@go run ./test/fuzz

mutations: ## change rows behind a move's back and see that every verifier names them
	@go run ./test/mutations

stress-verify: ## move a written shop under all verifiers, count false alarms (DURATION=30m)
	@go run ./test/mutations -stress $(DURATION)

test-browser: ## the control server's page in a real Chromium (fetched once, about 150 MB); pictures in test/browser/out/
	@go run ./test/runner -race=false -tags browser -timeout 25m ./test/browser

clean: ## remove what is built, fetched and measured here: bin, .servers, bench/results, test/browser/out
	@rm -rf bin .servers bench/results test/browser/out
