# The two commands that matter: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build release plugin bpf test test-kernels e2e bench fuzz demo deb fmt lint deny doc cleanup

CARGO ?= cargo
KERNELS ?= 6.1
FUZZ ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ_SECONDS ?= 60
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TOOLS := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/routerd-tools
export PATH := $(PATH):$(TOOLS)/bin

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what building and testing need (Debian 12+, Ubuntu 22.04+, root)
	@scripts/setup.sh

build: setup bpf ## Build everything, unoptimised
	$(CARGO) build --workspace --locked

release: setup bpf ## Build the four binaries, optimised
	$(CARGO) build --release --locked -p routerd -p holder -p routerctl -p cni
	@$(MAKE) --no-print-directory plugin

# Started for every workload, and copied into hosts of any distribution: without libraries to load
# it starts in two thirds of the time. It looks up no names, so it needs nothing of the C library's plug-ins.
plugin:
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --release --locked -p cni --target $(HOST) --target-dir target/plugin
	install -m755 target/plugin/$(HOST)/release/routerd-cni target/release/routerd-cni

# What policy-ebpf/build.rs embeds.
bpf: setup
	@scripts/bpf.sh

test: setup bpf ## Format, lints, licences, docs, then every test; end-to-end ones need root
	$(CARGO) fmt --all --check
	$(CARGO) fmt --all --check --manifest-path policy-ebpf/programs/Cargo.toml
	@$(MAKE) --no-print-directory lint deny doc
	$(CARGO) build --workspace --locked
	@$(MAKE) --no-print-directory test-kernels
	$(CARGO) nextest run --workspace --locked

test-kernels: setup bpf ## Tests under stock kernels in virtual machines; KERNELS="5.10 6.1 6.12"
	@scripts/setup.sh kernels
	@scripts/test-kernels.sh $(KERNELS)

e2e: setup bpf ## Only the tests on the network-namespace lab
	$(CARGO) build --workspace --locked
	$(CARGO) nextest run -p integration --locked

bench: setup bpf ## Measure; writes docs/benchmarks.md
	@scripts/tool.sh gotatun "$(TOOLS)" gotatun-cli@0.10.2
	$(CARGO) build --release --workspace --locked
	$(CARGO) build --release --workspace --locked --example tunnel
	@$(MAKE) --no-print-directory plugin
	target/release/bench --write docs/benchmarks.md

fuzz: ## Fuzz what reads bytes from outside; FUZZ="bgp_stream bfd_packet" FUZZ_SECONDS=600. Needs a nightly Rust
	@scripts/tool.sh cargo-fuzz "$(TOOLS)"
	@for target in $(FUZZ); do $(CARGO) +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS); done

demo: setup bpf ## A three-node mesh and two racks on this machine, with a verdict at the end
	$(CARGO) build --release --locked --no-default-features -p routerd -p holder -p routerctl -p cni -p integration
	@$(MAKE) --no-print-directory plugin
	target/release/demo

deb: release ## Build target/routerd_VERSION_ARCH.deb
	scripts/deb.sh target/release target

fmt: ## Format the code
	$(CARGO) fmt --all
	$(CARGO) fmt --all --manifest-path policy-ebpf/programs/Cargo.toml

lint: setup ## Lints of the whole workspace
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --workspace --test kernel --test kernel_tunnel --locked -- -D warnings

deny: ## Licences, sources and duplicates of dependencies
	@scripts/tool.sh cargo-deny "$(TOOLS)"
	$(CARGO) deny --locked --log-level error check licenses bans sources
	$(CARGO) deny --locked --log-level error --manifest-path policy-ebpf/programs/Cargo.toml check licenses bans sources

doc: ## Build the API documentation; a warning is an error
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

cleanup: ## Remove what killed test runs left behind
	$(CARGO) run --quiet --locked -p integration --bin routerd-lab -- cleanup
