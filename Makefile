# The commands of the project. Each target installs or builds what it needs.

.DEFAULT_GOAL := help
.PHONY: help demo test lint images arm64 reproducible release-check cluster cluster-down e2e e2e-full walk alerts soak chaos lifecycle gitops bench throttling

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## the main job in front of your eyes: no cluster, no root
	cargo build -p keeper-sim -p keeper-webhook -p keeper-sidecar -p keeper-demo
	@./target/debug/keeper-demo

test: lint ## everything that needs no cluster
	./e2e/keeper-sim/sdk/run install
	./e2e/squid/install
	./shared/agent/tests/readers/run install
	./images/spdx/run install
	cargo test --workspace --exclude keeper-e2e --exclude keeper-chart
	cargo test -p keeper-webhook --features otlp --test traces
	./chart/test
	python3 -m unittest discover images
	python3 -m unittest discover bench

lint: ## format, clippy, and what deny.toml bans
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p keeper-webhook --features otlp --all-targets -- -D warnings
	CARGO_PROFILE_DEV_PANIC=abort cargo clippy -p keeper-exec --bins --features freestanding -- -D warnings
	./.ci/deny

throttling: ## the tables (printed) and the plot of docs/throttling.md, simulated
	cargo run --quiet -p keeper-throttle-sim -- docs/images/throttling.svg

images: ## OCI archives in dist/
	./images/build

arm64: ## the images for arm64, cross-built; the demo with them under qemu
	./images/arm64

reproducible: ## two builds of the images at different places: the same bytes
	./images/reproducible

release-check: ## a release played against a registry here: signed, attested, verified, tampered with
	./release/check

cluster: images ## one real Kubernetes node with the product installed; stays up
	./e2e/cluster/cluster up

cluster-down: ## ends the node and leaves nothing behind
	./e2e/cluster/cluster down

e2e: images ## the promises, on the node
	./e2e/cluster/cluster test

e2e-full: images ## all that is shown on the node: the promises, and pages, alerts, certificates, life cycle, GitOps, soak and chaos, each for minutes
	./e2e/cluster/cluster gitops
	./e2e/cluster/cluster test -- --include-ignored

walk: images ## all pages, command by command on the node: from nothing to an alert and its end
	./e2e/cluster/cluster test --test pages --test production -- --include-ignored

alerts: images ## things are broken on the node until alerts fire; their runbooks are followed; minutes
	./e2e/cluster/cluster test --test monitoring -- --ignored --nocapture

soak: images ## minutes of random edits, faults and kills on the node, against a model
	./e2e/cluster/cluster test --test soak -- --ignored --nocapture

chaos: images ## minutes of killed, paused and evicted replicas on the node, from a seed
	./e2e/cluster/cluster test --test chaos -- --ignored --nocapture

lifecycle: ## updates that go well and badly, backups, and a lost cluster that is brought back, on nodes; minutes
	./e2e/cluster/cluster test --test lifecycle -- --ignored --nocapture

gitops: images ## Argo CD and Flux sync the product and an application on the node; minutes, and a quarter of an hour to build them once
	./e2e/cluster/cluster gitops
	./e2e/cluster/cluster test --test gitops -- --ignored --nocapture

bench: ## what the webhook and the agent take, and how long pods take to start, as tables; needs root
	./bench/run
