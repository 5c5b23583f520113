# The only entry point: `make run` on a fresh machine does everything, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

MOCHA := node node_modules/mocha/bin/mocha.js
TSC := node node_modules/tsc7/bin/tsc
CRATES := guest-agent/archive guest-agent src/front src/preload
RUST_TARGET := x86_64-unknown-linux-gnu
sources = $(shell find $(1) -type f -not -path '*/target/*' -not -path '*/generated/*' 2>/dev/null)

FRONT := dist/hrun
DAEMON := dist/libexec/hrund.mjs
PRELOAD := dist/libexec/hrun-preload.so
KERNEL := dist/guest/vmlinux
INITRAMFS := dist/guest/initramfs.cpio
BUSYBOX := dist/images/busybox.tar

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.PHONY: run
run: build ## install what is missing, build all, and run a container in a microVM
	dist/hrun run --rm --timing busybox sh -c 'echo "hello from a microVM, Linux $$(uname -r)"'

.PHONY: build
build: $(FRONT) $(DAEMON) $(PRELOAD) $(KERNEL) $(INITRAMFS) $(BUSYBOX) ## everything hrun needs, into dist/

.PHONY: tools
tools: node_modules/.package-lock.json
	@build/install-packages build/packages.txt <(kernel-configs/build --packages)

node_modules/.package-lock.json: package.json package-lock.json
	npm install --no-save --no-audit --no-fund --loglevel=error # not ci: it wants a lock entry for every platform of optional packages
	@touch $@

.PHONY: kernel
kernel: $(KERNEL) ## the guest kernel (cached outside the checkout by a hash of config and source)
$(KERNEL): $(call sources,kernel-configs) | tools
	mkdir -p $(@D)
	kernel-configs/build $@
	@touch $@

.PHONY: agent
agent: $(INITRAMFS) ## the guest's initramfs: the agent and nothing else
$(INITRAMFS): $(call sources,guest-agent images/initramfs) | tools
	mkdir -p $(@D)
	cd guest-agent && cargo build --release --locked # from there, so that cargo reads its .cargo/config.toml
	images/initramfs guest-agent/target/$(RUST_TARGET)/release/hrun-agent $@

$(FRONT): $(call sources,src/front guest-agent/archive) | tools
	mkdir -p $(@D)
	cd src/front && cargo build --release --locked
	install -m 755 src/front/target/release/hrun $@

$(PRELOAD): $(call sources,src/preload) | tools
	mkdir -p $(@D)
	cd src/preload && cargo build --release --locked
	install -m 644 src/preload/target/release/libhrun_preload.so $@

CRASHING := dist/crash/libexec/hrund.mjs
$(CRASHING): $(DAEMON) $(FRONT) $(PRELOAD) $(KERNEL) $(INITRAMFS) $(BUSYBOX)
	node build/bundle.ts --crash-points dist/crash
	ln -sfn ../guest ../images ../hrun dist/crash/
	ln -sf ../../libexec/hrun-preload.so dist/crash/libexec/

$(DAEMON): $(call sources,src build/bundle.ts) package-lock.json | tools
	node build/bundle.ts

.PHONY: images
images: $(BUSYBOX) ## the built-in image
$(BUSYBOX): $(call sources,images/busybox) | tools
	mkdir -p $(@D)
	images/busybox $@

.PHONY: proto
proto: tools ## generate code from the contract after a change of guest-agent/proto
	buf lint guest-agent/proto
	cd guest-agent/proto && buf generate
	cargo run --locked --manifest-path guest-agent/Cargo.toml --features codegen --bin codegen

.PHONY: check
check: tools ## format, lint, types, rooms, dead code
	biome check .
	$(TSC) -p .
	depcruise src
	node build/ociFields.ts --check
	knip
	buf lint guest-agent/proto
	for crate in $(CRATES); do \
	  cargo fmt --check --manifest-path $$crate/Cargo.toml; \
	  cargo clippy --locked --quiet --all-targets --manifest-path $$crate/Cargo.toml -- -D warnings; \
	done

.PHONY: test-packages
test-packages:
	@build/install-packages test/packages.txt

.PHONY: test-unit
test-unit: tools ## unit tests only: seconds, no VM
	$(MOCHA)

.PHONY: test
test: build $(CRASHING) test-packages check ## everything that must hold: unit tests, real VMs, a real registry
	for crate in $(CRATES); do cargo test --locked --quiet --manifest-path $$crate/Cargo.toml; done
	$(MOCHA)
	$(MOCHA) --config test/integration/mocharc.json

# Notes of what a run has tried; build/report.ts makes the tables of docs/ from them.
NOTES := dist/report

.PHONY: fuzz
fuzz: tools ## damage what every parser of host and agent reads, SECONDS each (60), and write down how often
	mkdir -p dist && rm -f $(NOTES)
	HRUN_FUZZ_SECONDS=$(or $(SECONDS),60) HRUN_REPORT=$(abspath $(NOTES)) $(MOCHA) --no-config --extension ts 'test/fuzz/*.test.ts'
	cd guest-agent && HRUN_REPORT=$(abspath $(NOTES)) BOLERO_RANDOM_TEST_TIME_MS=$(or $(SECONDS),60)000 BOLERO_RANDOM_ITERATIONS=1000000000 \
	  cargo test --locked --lib fuzz
	cd guest-agent/archive && HRUN_REPORT=$(abspath $(NOTES)) HRUN_FUZZ_SECONDS=$(or $(SECONDS),60) cargo test --locked --test mutations
	node build/report.ts $(NOTES)

.PHONY: chaos
chaos: build $(CRASHING) test-packages ## kill everything at every step, then ROUNDS times at any moment (1000), and write down what was lost
	rm -f $(NOTES)
	HRUN_CHAOS_ROUNDS=$(or $(ROUNDS),1000) HRUN_REPORT=$(abspath $(NOTES)) $(MOCHA) --no-config --extension ts \
	  --require test/integration/setup.ts test/integration/chaos/{crashes,imageCrashes,managerCrashes,standstill,outOfMemory,many,corruption}.test.ts
	node build/report.ts $(NOTES)

.PHONY: soak
soak: build test-packages ## make, run and remove containers CYCLES times (2000): nothing may grow
	rm -f $(NOTES)
	HRUN_SOAK_CYCLES=$(or $(CYCLES),2000) HRUN_REPORT=$(abspath $(NOTES)) $(MOCHA) --no-config --extension ts \
	  --require test/integration/setup.ts test/integration/chaos/soak.test.ts
	node build/report.ts $(NOTES)

.PHONY: durability
durability: build test-packages ## kill QEMU under a SQLite writer, ROUNDS times on each kind of volume (200)
	HRUN_DURABILITY_ROUNDS=$(or $(ROUNDS),200) $(MOCHA) --no-config --extension ts --require test/integration/setup.ts \
	  test/integration/volumes/durability.test.ts

# Where the acceptance scripts of the managers are.
ACCEPT ?= ../shared/accept

.PHONY: conformance
conformance: build ## put hrun in runc's place under podman, dockerd and containerd (and its CRI), then run the OCI validation suite
	@build/install-packages test/conformance/packages.txt
	status=0; for suite in "managers $(ACCEPT)" cri oci-validation; do \
	  test/conformance/$$suite $(abspath $(FRONT)) || status=1; \
	done; exit $$status

.PHONY: bench
bench: build ## measure against raw QEMU, podman and runc (ROUNDS=20); raw samples, a table and plots in bench-results/
	@build/install-packages test/bench/packages.txt
	node test/bench/main.ts

.PHONY: clean
clean: ## remove what a build makes (not the kernel cache)
	rm -rf dist node_modules coverage $(addsuffix /target,$(CRATES))
