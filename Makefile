# Everything a developer does by hand. `make` alone lists it.

.DEFAULT_GOAL := help
SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
BINARIES := -p rowcast-cli -p rowcast-listener -p rowcast-edge
# Where setup puts a Node that is newer than the system's, if that is too old.
export PATH := $(abspath $(TARGET))/tools/node/bin:$(PATH)
# What the packages and the page are built from, and what says that they are.
CLIENT_SOURCES := $(shell find clients -name node_modules -prune -o -name dist -prune -o -type f -print)
CLIENT_PACKAGES := clients/node_modules/.package-lock.json
PAGE := clients/demo/dist/index.html

# How long `make demo` runs, until Ctrl-C unless given; and `make torture` and each target of `make fuzz`, 60 unless given.
SECONDS :=
# Of `make fuzz`: what is fuzzed, by name; everything unless given.
FUZZ :=
# Of `make torture`: the seed, what Redis is made of, and the kinds of faults; 1, one server and all unless given.
SEED :=
FAULTS :=
# Of `make bench-hostile`: names of attacks; all unless given.
ATTACKS :=
# Where it keeps its data; ./demo-data unless given, or a temporary folder when another demo runs there.
DIR :=
# `OPEN=no` opens no browser.
OPEN :=

.PHONY: help setup build build-clients demo test test-clients test-compat test-long docs bench-latency bench-writepath bench-cluster bench-hostile bench-takeover torture mutants mutants-protocol spike-socket fuzz deny sbom fmt lint clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: PostgreSQL, Redis, HAProxy, PgBouncer, Node, Chromium, build tools (apt or brew)
	@scripts/setup.sh

build: setup ## Build the release binaries: rowcast, rowcast-listener, rowcast-edge
	cargo build --release $(BINARIES) --bins

build-clients: setup $(PAGE) ## Build the npm packages and the demo's page, if something changed

$(CLIENT_PACKAGES): clients/package-lock.json | setup
	cd clients && npm ci
	@touch $@

$(PAGE): $(CLIENT_PACKAGES) $(CLIENT_SOURCES)
	cd clients && npm run build --workspaces --if-present
	@touch $@

demo: build build-clients ## Start all of Rowcast and its page (SECONDS=20 ends it, DIR=... keeps it there, OPEN=no opens no browser)
	@exec $(TARGET)/release/rowcast dev --page clients/demo/dist $(if $(filter no,$(OPEN)),--no-open) $(if $(DIR),--dir '$(DIR)') $(if $(SECONDS),--seconds $(SECONDS))

test: setup ## Check format and lints, run all tests; the last line counts them
	@scripts/test.py

test-clients: setup ## The part of `make test` that is about the clients: packages, contract, browser
	@scripts/test.py --clients

test-compat: setup ## This release's programs and clients beside those of the previous one (scripts/previous-release.txt)
	@scripts/test.py --compat

test-long: setup ## What takes longer: tests marked #[ignore] in release mode, Autobahn's suite, fuzzing
	@scripts/test.py --long

docs: setup ## Write the configuration's reference into docs/configuration.md, from the code
	@cargo run -q -p rowcast-docs

bench-latency: build ## Commit to client, native and Socket.IO, beside a bare LISTEN → socket loop (about 5 minutes)
	cargo build --release -p rowcast-generator
	@loadtest/bench-latency.sh

bench-writepath: setup ## What watching costs the application: commits a second, latency, large statements, backlogs (about 5 minutes)
	cargo build --release -p rowcast-writepath -p rowcast-listener
	@$(TARGET)/release/rowcast-writepath

bench-cluster: setup ## Three masters of a Redis Cluster against one Redis: a listener, the bus alone, an edge (about 4 minutes)
	cargo build --release -p rowcast-writepath -p rowcast-listener -p rowcast-edge
	@$(TARGET)/release/rowcast-writepath cluster

torture: setup ## All of Rowcast under seeded faults, and whether each promise was kept (SECONDS=60 SEED=1 REDIS=one|sentinel|cluster FAULTS=kill,stop,…)
	cargo build --workspace --bins
	@$(TARGET)/debug/rowcast-torture --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1) $(if $(REDIS),--redis $(REDIS)) $(if $(FAULTS),--faults $(FAULTS)) $(if $(DIR),--dir '$(DIR)')

bench-hostile: build ## 2,000 clients beside each attack, and quiet (SECONDS=30 ATTACKS=name,name; about 35 minutes)
	cargo build --release -p rowcast-generator -p rowcast-attacks
	@SECONDS_EACH=$(or $(SECONDS),30) ATTACKS=$(ATTACKS) loadtest/bench-hostile.sh

bench-takeover: setup ## How long nobody publishes when a leader is killed, stopped or ended: 30 times each (about 5 minutes)
	cargo test --release -p rowcast-listener --test takeover_times -- --ignored --nocapture

mutants: setup ## Take out one mechanism at a time and show that a test fails without it (about 6 minutes)
	@scripts/mutants.py

mutants-protocol: setup ## Change crates/protocol in every small way and list what no test notices (cargo install cargo-mutants; about 15 minutes)
	PROPTEST_CASES=64 cargo mutants --output $(TARGET)/mutants-protocol

spike-socket: setup ## Measure three ways to carry a socket (about 5 minutes)
	@loadtest/spike-socket/run.sh

fuzz: setup ## Give what reads hostile bytes inputs made of its corpora (SECONDS=60 for each, FUZZ=wire)
	cargo build --release -p rowcast-fuzzing
	@$(TARGET)/release/rowcast-fuzzing --seconds $(or $(SECONDS),60) $(FUZZ)

deny: setup ## Check licences, bans and sources of everything that Rowcast depends on
	@scripts/deny.sh

sbom: setup ## Write what Rowcast is made of as CycloneDX, into target/sbom
	@scripts/sbom.py

fmt: ## Format the code
	cargo fmt --all

lint: setup ## Check format and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

clean: ## Remove what was built and the demo's data
	cargo clean
	rm -rf demo-data clients/node_modules clients/*/node_modules clients/*/dist
