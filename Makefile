# `make run` measures this machine, `make check` tests what needs no engine, `make test` tests everything.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable
PYTEST := $(BIN)/python -m pytest

# Without bytecode on disk every process of a test would compile the package again; empty means unset.
export PYTHONDONTWRITEBYTECODE :=

# Of llama.cpp, build only what llama-cpp-python loads: 74 of 178 source files. pip would hand out such a wheel wherever
# the whole package is asked for, so it has a cache of its own.
LLAMA_CMAKE := -DLLAVA_BUILD=OFF -DCMAKE_PROJECT_INCLUDE='$(CURDIR)/tests/lab/llama-cpp-python.cmake'
LLAMA_CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/edgebench/pip

run: $(VENV)/.installed
	$(BIN)/edgebench run

check: $(VENV)/.check-installed lint light

test: $(VENV)/.test-installed lint light lab

lint: $(VENV)/.check-installed
	@echo "== lint: ruff, mypy, import-linter"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

light: $(VENV)/.check-installed
	@echo "== light: tests that need neither an engine nor a machine of the lab, two at a time"
	$(PYTEST) -m "not lab" -n 2 --dist loadfile

# One at a time: engines are measured.
lab: $(VENV)/.test-installed
	@echo "== lab: tests with engines and machines of the lab"
	sh tests/lab/debian.sh
	$(PYTEST) -m lab

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("edgebench needs Python 3.10 or later, and $(PYTHON) is " + sys.version.split()[0] + "; name another: make run PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	@echo "Installing edgebench into $(VENV), once; this takes about a minute."
	$(PIP) .
	touch $@

$(VENV)/.check-installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	@echo "Installing edgebench and what its light tests need into $(VENV), once; this takes about a minute."
	$(PIP) '.[check]'
	touch $@ $(VENV)/.installed

$(VENV)/.test-installed: $(VENV)/.check-installed
	@echo "Installing what the lab's tests need into $(VENV), once; where llama-cpp-python has to be compiled, some minutes."
	sh tests/lab/debian.sh
	CMAKE_ARGS="$$CMAKE_ARGS $(LLAMA_CMAKE)" CMAKE_BUILD_PARALLEL_LEVEL=$$(getconf _NPROCESSORS_ONLN) \
	    $(PIP) '.[test]' --cache-dir "$(LLAMA_CACHE)"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info

# Phases follow each other under `make -j` too.
.NOTPARALLEL:
.PHONY: run check test lint light lab clean
