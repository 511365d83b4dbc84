# One entry point. `make` lists the targets.
SEEDS ?= 20000
.DEFAULT_GOAL := help
.PHONY: help run test check fmt release simulate

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: ## serve pipelines.example.yml
	cargo run --release --locked -- --pattern pipelines.example.yml

test: ## all tests
	cargo test --locked

check: ## format, lints with warnings as errors, all tests
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked

fmt: ## format the code
	cargo fmt

release: ## a static binary in dist/
	RUSTFLAGS="--cfg getrandom_backend=\"linux_getrandom\" -C target-feature=+crt-static" cargo build --release --locked --target x86_64-unknown-linux-gnu
	mkdir -p dist
	cp target/x86_64-unknown-linux-gnu/release/prunner dist/prunner
	@! ldd dist/prunner >/dev/null 2>&1 || ldd dist/prunner 2>&1 | grep -q 'statically linked' || { echo 'dist/prunner is not static'; exit 1; }
	@stat -c 'dist/prunner: %s bytes' dist/prunner

simulate: ## random histories of the scheduler against its model: make simulate SEEDS=100000
	SEEDS=$(SEEDS) cargo test --release --locked --bin prunner scheduler::simulation -- --nocapture
