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
	  echo "$(3)" >&2; \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 1; \
	  echo "installing $(2)" >&2; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends $(2); \
	}
endef

.PHONY: setup lint typecheck test demo bench clean

setup: .venv/.installed .venv-sandbox/.installed .venv-pympp/.installed .venv-x402v1/.installed .venv-fuzz/.installed sandbox/node_modules/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(call require,$(PYTHON) -c 'import ensurepip',python3-venv,$(PYTHON) cannot make a virtual environment)
	@[ -x .venv/bin/python ] || $(PYTHON) -m venv .venv
	$(product_pip) -e '.[dev,mcp]'
	@$(product_pip) -e '.[fast]' 2>/dev/null || echo "no C compiler for the fast keccak; pycryptodome's serves"
	@touch $@

.venv-sandbox/.installed: sandbox/requirements.txt sandbox/constraints.txt
	$(call require,$(PYTHON) -c 'import ensurepip',python3-venv,$(PYTHON) cannot make a virtual environment)
	@[ -x .venv-sandbox/bin/python ] || $(PYTHON) -m venv .venv-sandbox
	$(sandbox_pip) -r sandbox/requirements.txt
	@touch $@

# pympp's pins contradict those of the other reference SDKs, so it has a place of its own.
.venv-pympp/.installed: sandbox/dropmpp/requirements-pympp.txt sandbox/dropmpp/constraints-pympp.txt
	@[ -x .venv-pympp/bin/python ] || $(PYTHON) -m venv .venv-pympp
	PIP_CONSTRAINT=$(CURDIR)/sandbox/dropmpp/constraints-pympp.txt .venv-pympp/bin/python -m pip install $(PIP_FLAGS) -r sandbox/dropmpp/requirements-pympp.txt
	@touch $@

# x402 of version 1 and x402 of version 2 are one name on PyPI, so the old client has a place of its own as well.
.venv-x402v1/.installed: sandbox/payers/requirements-x402v1.txt sandbox/payers/constraints-x402v1.txt
	@[ -x .venv-x402v1/bin/python ] || $(PYTHON) -m venv .venv-x402v1
	PIP_CONSTRAINT=$(CURDIR)/sandbox/payers/constraints-x402v1.txt .venv-x402v1/bin/python -m pip install $(PIP_FLAGS) -r sandbox/payers/requirements-x402v1.txt
	@touch $@

# What lints and fuzzes the API; it brings a pytest of its own.
.venv-fuzz/.installed: sandbox/fuzz/requirements.txt sandbox/fuzz/constraints.txt
	@[ -x .venv-fuzz/bin/python ] || $(PYTHON) -m venv .venv-fuzz
	PIP_CONSTRAINT=$(CURDIR)/sandbox/fuzz/constraints.txt .venv-fuzz/bin/python -m pip install $(PIP_FLAGS) -r sandbox/fuzz/requirements.txt
	@touch $@

# No package here needs an install script, so none gets to run.
sandbox/node_modules/.installed: sandbox/package.json sandbox/package-lock.json sandbox/payers/no-wagmi/package.json
	$(call require,npm --version,nodejs npm,npm is missing: the local chain comes from it)
	npm ci --prefix sandbox --ignore-scripts --no-audit --no-fund --loglevel=error
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
	rm -rf .venv .venv-sandbox .venv-pympp .venv-x402v1 .venv-fuzz sandbox/node_modules .build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
