# make demo   install, then optimise a real fused module in about a minute
# make test   install with development tools, then lint, types, imports, sizes, tables, tests,
#             and the red-team suite with nothing beside it
# make test-slow  the tests that make test leaves out for their time
# make test-all   both

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-slow test-all lint types imports sizes tables tests clean

demo: $(VENV)/.installed
	$(BIN)/kernelevolve optimize examples/gelu_layernorm_residual.py --minutes 0.8 --confirm 2

test: lint types imports sizes tables tests

test-slow: $(VENV)/.installed-dev
	$(BIN)/pytest --numprocesses 4 --dist worksteal -m "slow and not alone"

test-all: test test-slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

imports: $(VENV)/.installed-dev
	$(BIN)/lint-imports

sizes: $(VENV)/.installed-dev
	$(BIN)/python tools/check_sizes.py

tables: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/render.py --check

tests: $(VENV)/.installed-dev
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal -m "not slow and not alone"
	$(BIN)/pytest -m alone

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.installed
