# `make demo` and `make test` need Python 3.11 or newer and git, nothing else.
PYTHON ?= python3
VENV ?= .venv
# The CPU build of torch; for GPUs: make install TORCH_INDEX=https://download.pytorch.org/whl/cu130
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := $(abspath $(VENV))/bin
TORCH := $(shell sed -n 's/^\(torch==[0-9.]*\).*/\1/p' requirements.lock)
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS = 1
export OMP_WAIT_POLICY = PASSIVE

.DEFAULT_GOAL := help
.PHONY: help install data demo ui test lint types unit lineage browser clean

help:  ## show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed $(VENV)/.compiled  ## create the environment in .venv

$(VENV)/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Amalgam needs Python 3.11 or newer; try: make $(MAKECMDGOALS) PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version > /dev/null
	@# torch comes first and alone, from its own index: the general one serves a build with gigabytes of GPU libraries
	$(BIN)/python -c 'import torch' 2> /dev/null \
	  || $(BIN)/python -m pip install --quiet --no-deps --retries 0 --timeout 20 --index-url $(TORCH_INDEX) $(TORCH) \
	  || $(BIN)/python -m pip install --quiet --no-deps $(TORCH)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	@touch $@

# the loops of the CPU, so that no training has to wait for the compiler
$(VENV)/.compiled: $(VENV)/.installed $(wildcard ops/models/kernels/*.py)
	@$(BIN)/python -m ops.models.kernels
	@touch $@

data: install  ## fetch the embedded data (offline: it is in the repository)
	@$(BIN)/dvc pull --quiet data.dvc

demo: data  ## carry the embedded dataset through the whole lineage
	@$(BIN)/python -m pipelines run

ui: install  ## open Dagster and MLflow on 127.0.0.1
	@$(BIN)/python -m pipelines ui

test: lint types data browser  ## lint, types, tests, and the whole lineage at tiny scale
	@# side by side, each with half the cores: threads of both on all of them would wait for one another
	@OMP_NUM_THREADS=$$($(BIN)/python -c 'import os; print(max(1, os.cpu_count() // 2))') \
	  $(MAKE) --no-print-directory -j 2 unit lineage

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

unit: data
	$(BIN)/python -m pytest -q --durations=25 --durations-min=5 -m "not lineage and not ui"

lineage: data browser
	$(BIN)/python -m pytest -q --durations=15 --durations-min=20 -m "lineage or ui"

browser: install
	@command -v chromium > /dev/null || command -v google-chrome > /dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null \
	       && apt-get update -qq && apt-get install -y -qq chromium > /dev/null; } \
	  || $(BIN)/playwright install chromium \
	  || echo "no Chromium here: the tests that open pages will be skipped"

clean:  ## remove everything that the pipeline made (the embedded data stays)
	rm -rf store .amalgam .dagster mlflow.db* mlruns .dvc/cache .dvc/tmp
