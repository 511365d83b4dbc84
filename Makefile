# One entry point. `make` lists the targets.
SEEDS ?= 20000
ROUNDS ?= 1000
.DEFAULT_GOAL := help
.PHONY: help run test check fmt release man install uninstall bench simulate torture

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

# musl is made for static binaries: glibc would add 0.75 MB, most of it for what a static binary can't use.
TARGET ?= $(shell uname -m)-unknown-linux-musl
MAX_BYTES = 4000000
# One for another kind of machine stands beside it: dist/prunner-aarch64.
DIST = dist/prunner$(if $(filter $(shell uname -m)-%,$(TARGET)),,-$(firstword $(subst -, ,$(TARGET))))
# There the linker that comes with the compiler does: no package is needed for `make release TARGET=aarch64-unknown-linux-musl`.
# Another one is taken where CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER names it.
LINKER = CARGO_TARGET_$(subst -,_,$(shell echo $(TARGET) | tr a-z A-Z))_LINKER
LINKED = $(if $(filter $(shell uname -m)-%,$(TARGET)),,$(LINKER)=$(or $($(LINKER)),rust-lld) )
# The same compiler makes the same bytes wherever it is and whoever builds: panics name files of crates, so their place is cut off.
CRATES = $(or $(CARGO_HOME),$(HOME)/.cargo)/registry/src
# Relative relocations are packed: 80 kB less, and nothing else changes.
STATIC = RUSTFLAGS="--cfg getrandom_backend=\"linux_getrandom\" -C target-feature=+crt-static -C link-arg=-zpack-relative-relocs --remap-path-prefix=$(CRATES)=crates"
release: ## a static binary in dist/; fails unless it is static, stripped and at most 4 MB
	@[ -d "$$(rustc --print sysroot)/lib/rustlib/$(TARGET)" ] || rustup target add $(TARGET)
	$(LINKED)$(STATIC) cargo build --release --locked --target $(TARGET)
	mkdir -p dist
	cp target/$(TARGET)/release/prunner $(DIST)
	@! readelf -l $(DIST) | grep -q INTERP || { echo '$(DIST) is not static: it names an interpreter'; exit 1; }
	@! readelf -d $(DIST) | grep -q NEEDED || { echo '$(DIST) is not static: it needs libraries'; exit 1; }
	@! readelf -S $(DIST) | grep -q '\.symtab' || { echo '$(DIST) is not stripped'; exit 1; }
	@! grep -qaF '$(CRATES)' $(DIST) || { echo '$(DIST) names $(CRATES): built elsewhere it would be another'; exit 1; }
	@sha256sum $(DIST)
	@size=$$(stat -c %s $(DIST)); echo "$(DIST): $$size bytes"; [ $$size -le $(MAX_BYTES) ] || { echo 'that is more than $(MAX_BYTES)'; exit 1; }

BINARY ?= dist/prunner
man: $(BINARY) ## the manual page as dist/prunner.1, from what `prunner --help` is made of
	mkdir -p dist
	$(BINARY) __man > dist/prunner.1

# First `make release` as yourself: then root needs no toolchain.
PREFIX ?= /usr/local
ROOT = $(DESTDIR)$(PREFIX)
MAN_PAGE = $(ROOT)/share/man/man1/prunner.1
BASH_COMPLETION = $(ROOT)/share/bash-completion/completions/prunner
ZSH_COMPLETION = $(ROOT)/share/zsh/site-functions/_prunner
FISH_COMPLETION = $(ROOT)/share/fish/vendor_completions.d/prunner.fish
UNIT = $(ROOT)/lib/systemd/system/prunner.service
dist/prunner:
	$(MAKE) release

install: $(BINARY) ## binary, manual page, completions, systemd unit: make install PREFIX=/usr DESTDIR=staging
	install -D -m 755 $(BINARY) $(ROOT)/bin/prunner
	install -d $(dir $(MAN_PAGE) $(BASH_COMPLETION) $(ZSH_COMPLETION) $(FISH_COMPLETION) $(UNIT))
	$(BINARY) __man > $(MAN_PAGE)
	$(BINARY) completions bash > $(BASH_COMPLETION)
	$(BINARY) completions zsh > $(ZSH_COMPLETION)
	$(BINARY) completions fish > $(FISH_COMPLETION)
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|' packaging/prunner.service > $(UNIT)
	chmod 644 $(MAN_PAGE) $(BASH_COMPLETION) $(ZSH_COMPLETION) $(FISH_COMPLETION) $(UNIT)

uninstall: ## remove what `make install` with the same PREFIX and DESTDIR has put there
	rm -f $(ROOT)/bin/prunner $(MAN_PAGE) $(BASH_COMPLETION) $(ZSH_COMPLETION) $(FISH_COMPLETION) $(UNIT)

# With the flags of the release, so that nothing is built twice.
bench: release ## figures of dist/prunner beside the machine's limits: make bench AGAINST=other/prunner ONLY=start
	$(STATIC) cargo bench --locked --target $(TARGET) --bench figures -- dist/prunner $(AGAINST) --only "$(ONLY)" $(if $(ONLY),,--results bench/results.json)

simulate: ## random histories of the scheduler against its model: make simulate SEEDS=100000
	SEEDS=$(SEEDS) cargo test --release --locked --bin prunner scheduler::simulation -- --nocapture

torture: ## kill it, fill its disk, damage its files, for long: make torture ROUNDS=1000
	ROUNDS=$(ROUNDS) cargo test --release --locked --test torture -- --nocapture
