# Two commands do everything: `make run` measures this machine, `make test` proves the checkout.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

run: $(VENV)/.installed
	$(BIN)/edgebench run

test: $(VENV)/.test-installed
	sh tests/lab/debian.sh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.test-installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info

.PHONY: run test clean
