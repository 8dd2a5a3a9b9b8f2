# `make check` is what CI runs; each target works in any clone with Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TESTS ?= tests
BENCH ?=
PROCESSES ?= 2

.DEFAULT_GOAL := help
.PHONY: help venv format format-check lint types contracts test bench demo check clean

help: ## Say what each target does
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1 \2/' | awk '{ printf "  %-14s", $$1; $$1 = ""; print }'

venv: $(VENV)/made ## Make .venv with everything that the other targets need

$(VENV)/made: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e '.[test]' 'ruff>=0.14' 'mypy>=1.18'
	touch $@

format: venv ## Write the code in its one format
	$(BIN)/ruff format .

format-check: venv
	$(BIN)/ruff format --check .

lint: venv ## Look for mistakes that can be seen without running
	$(BIN)/ruff check .

types: venv ## Check the types, strictly
	$(BIN)/mypy

contracts: venv ## Check which package may import which
	$(BIN)/lint-imports
	$(BIN)/lint-imports --config import-cycles.toml

test: venv ## Run the tests (TESTS=tests/unit for some of them)
	$(BIN)/python -m pytest -n $(PROCESSES) $(TESTS)

bench: venv ## Print the speed of this machine; nothing fails for being slow (BENCH=drain for one of them)
	$(BIN)/python -m tests.benchmarks $(BENCH)

demo: venv ## Tell the whole story in a terminal, with a real server
	$(BIN)/python -m simulator demo

check: format-check lint types contracts test ## All of it, as CI does

clean: ## Remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
