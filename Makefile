# The Action Controller: `make help` lists what there is to make.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Outlives a clean checkout: gRPC's C core takes about ten minutes to compile, once per folder and profile.
CACHE ?= $(HOME)/.cache/actioncontroller
export CARGO_TARGET_DIR ?= $(CACHE)/target
TOOLS := $(CACHE)/tools
VENV := $(CACHE)/venv
export PATH := $(TOOLS)/bin:$(PATH)

PREFIX ?= /usr
DESTDIR ?=
CARGO ?= cargo

PACKAGES := cmake g++ pkg-config libssl-dev zlib1g-dev make podman docker.io containerd catatonit crun runc conmon \
  busybox-static docker-registry iproute2 netavark aardvark-dns iptables procps python3 python3-venv systemd etcd-server \
  etcd-client openssl skopeo dbus

.PHONY: help packages build release demo test test-cgroup2 fmt lint deny doc unit conformance bench install clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  Built in $(CARGO_TARGET_DIR) (CARGO_TARGET_DIR)."

packages: ## Install the Debian packages that building and testing need, where they are missing
	@if ! command -v dpkg-query >/dev/null; then \
	  echo "No Debian here: see to these yourself: $(PACKAGES)"; exit 0; fi; \
	missing=(); for package in $(PACKAGES); do \
	  [ "$$(dpkg-query -W -f='$${db:Status-Status}' "$$package" 2>/dev/null)" = installed ] || missing+=("$$package"); \
	done; \
	[ "$${#missing[@]}" -gt 0 ] || exit 0; \
	echo "Installing $${missing[*]}"; \
	root=(); [ "$$(id -u)" = 0 ] || root=(sudo); \
	export DEBIAN_FRONTEND=noninteractive; \
	"$${root[@]}" apt-get update -qq; \
	"$${root[@]}" apt-get install -qq --no-install-recommends "$${missing[@]}"

build: packages ## Build the daemon and actionctl, for working on them
	$(CARGO) build --locked --bins

release: packages ## Build them for a vehicle
	$(CARGO) build --locked --release --bins

demo: build ## Show the daemon at work on engines of its own, and with none
	tests/rig/criu.sh
	tests/rig/demo.sh "$(CARGO_TARGET_DIR)/debug"

test: packages lint deny doc unit ## Everything that has to pass

test-cgroup2: packages $(TOOLS)/nextest ## What needs controllers of version 2 of control groups: holds for the whole machine meanwhile
	$(CARGO) test --locked --no-run --test it
	ACTIONCONTROLLER_CGROUP=2 tests/rig/cgroup2.sh $(CARGO) nextest run --locked --config-file .ci/nextest.toml -E 'binary(it) & test(/^limits::/)'

fmt: ## Format the source
	$(CARGO) fmt

lint:
	$(CARGO) fetch --locked
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

deny: $(TOOLS)/bin/cargo-deny
	$(CARGO) deny --offline check bans licenses sources
	@if [ -d "$${CARGO_HOME:-$$HOME/.cargo}/advisory-dbs" ]; then $(CARGO) deny --offline check advisories; \
	else echo "Advisories are not checked: their database is not here ('cargo deny fetch db' gets it)."; fi

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --lib --document-private-items

unit: $(TOOLS)/nextest $(VENV)/done
	tests/rig/criu.sh
	ACTIONCONTROLLER_PYTHON="$(VENV)/bin/python" $(CARGO) nextest run --locked --config-file .ci/nextest.toml
	tests/rig/podman5.sh
	ACTIONCONTROLLER_PODMAN=5 $(CARGO) nextest run --locked --config-file .ci/nextest.toml \
	  -E 'binary(it) & test(/podman|end_to_end/)'
	$(CARGO) test --locked --doc

conformance: packages ## Run the conformance suite and print engine by case
	tests/rig/criu.sh
	tests/rig/conformance.sh

bench: packages ## Measure: latency, memory, wake-ups
	$(CARGO) bench --locked --bench bench

install: release ## Install below DESTDIR and PREFIX (/usr)
	install -D -m 0755 "$(CARGO_TARGET_DIR)/release/actioncontroller" "$(DESTDIR)$(PREFIX)/bin/actioncontroller"
	install -D -m 0755 "$(CARGO_TARGET_DIR)/release/actionctl" "$(DESTDIR)$(PREFIX)/bin/actionctl"
	install -D -m 0644 config/actioncontroller.yaml "$(DESTDIR)/etc/actioncontroller/actioncontroller.yaml"
	install -D -m 0644 -t "$(DESTDIR)$(PREFIX)/lib/actioncontroller/config.d" config/config.d/*.yaml
	install -D -m 0644 -t "$(DESTDIR)$(PREFIX)/lib/sysusers.d" config/sysusers.d/actioncontroller.conf
	install -D -m 0644 -t "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d" config/tmpfiles.d/actioncontroller.conf
	install -d "$(DESTDIR)$(PREFIX)/lib/systemd/system"
	sed 's|/usr/bin/|$(PREFIX)/bin/|' config/systemd/actioncontroller.service \
	  > "$(DESTDIR)$(PREFIX)/lib/systemd/system/actioncontroller.service"
	install -D -m 0644 -t "$(DESTDIR)$(PREFIX)/share/doc/actioncontroller" LICENSE README.md CHANGELOG.md
	install -D -m 0644 -t "$(DESTDIR)$(PREFIX)/share/doc/actioncontroller/examples" config/examples/* config/systemd/oci.conf
	install -d "$(DESTDIR)$(PREFIX)/share/man/man1" "$(DESTDIR)$(PREFIX)/share/bash-completion/completions"
	"$(CARGO_TARGET_DIR)/release/actionctl" completions bash \
	  > "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/actionctl"
	"$(CARGO_TARGET_DIR)/release/actionctl" man "$(DESTDIR)$(PREFIX)/share/man/man1"

clean: ## Remove what was built (not the tools beside it)
	$(CARGO) clean

# Tools that a machine may lack, built once.
$(TOOLS)/bin/cargo-deny:
	@if command -v cargo-deny >/dev/null; then mkdir -p $(@D) && ln -sf "$$(command -v cargo-deny)" $@; \
	else $(CARGO) install --locked --root $(TOOLS) --target-dir $(CACHE)/target-tools cargo-deny; fi

$(TOOLS)/nextest:
	@command -v cargo-nextest >/dev/null || \
	  $(CARGO) install --locked --root $(TOOLS) --target-dir $(CACHE)/target-tools cargo-nextest
	@mkdir -p $(@D) && touch $@

$(VENV)/done: tests/rig/python-requirements.txt
	rm -rf $(VENV) && python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@
