# make run    start Holdfast; everything it needs is set up first
# make test   set up, then run every test that this machine can run
# make model  install what steps of the kind `llm` need, about 120 MB more
# make lint   what CI checks before the tests
# make bench  measure; rows go to bench/out/
# make clean  remove what the others made here, but never your data

SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r
# The command `holdfast` in the environment runs what is checked out here.
SELF := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index --no-build-isolation --editable .
ON_PATH := PATH="$(CURDIR)/$(BIN):$$PATH"

# The first Python that will do, else the one to explain why not; `make PYTHON=…` names another.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python3.14 python; do \
	$$p requirements/python.py 2>/dev/null && { echo $$p; exit; }; done; echo python3)

# A half-made environment (an interrupted first run, a Python since removed) is made anew.
_ := $(shell [ -x $(BIN)/python ] && [ -e $(VENV)/.made ] || rm -f $(VENV)/.made $(VENV)/.run $(VENV)/.test)

.PHONY: help run model test test-fast lint bench clean

help:
	@sed -n '/^# make/s/^# //p' Makefile

$(VENV)/.made:
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON) here; Holdfast needs Python 3.11 or newer (make PYTHON=/path/to/python3)." >&2; exit 1; }
	@"$(PYTHON)" requirements/python.py || { echo "Name another: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV)
	@touch $@

# The test set includes the run set, so either stamp serves `make run`.
$(VENV)/.run: requirements/run.lock | $(VENV)/.made
	@cmp -s requirements/test.lock $(VENV)/.test || { \
	  echo "Installing what Holdfast runs on (once)…"; $(PIP) requirements/run.lock; }
	@$(SELF)
	@touch $@

$(VENV)/.test: requirements/test.lock | $(VENV)/.made
	@echo "Installing what the tests run on (once)…"
	@$(PIP) requirements/test.lock
	@$(SELF)
	@cp requirements/test.lock $@

# exec: a signal for make's child is a signal for the runtime.
run: $(VENV)/.run
	@exec $(BIN)/python manage.py runtime

model: $(VENV)/.run requirements/model.lock
	@echo "Installing what language models are spoken to with…"
	@$(PIP) requirements/model.lock

test: $(VENV)/.test
	@$(ON_PATH) sh tests/run

test-fast: $(VENV)/.test
	@$(ON_PATH) sh tests/run fast

lint: $(VENV)/.test
	@$(ON_PATH) sh tests/lint

bench: $(VENV)/.test
	@$(BIN)/python bench/run.py

clean:
	rm -rf $(VENV) .venv-next .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist build
	find . -name __pycache__ -not -path './data/*' -prune -exec rm -rf {} +
