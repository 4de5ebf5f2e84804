# `make demo` and `make test` need git, make and Python >= 3.11; they set up everything else in .venv themselves.
# Another interpreter: `make test PYTHON=python3.12`.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && exit; done; echo python3)
WORKERS ?= 2

VENV := .venv
BENCH_VENV := .venv-bench
SAMPLE_FACTORY_VENV := .venv-sample-factory
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test check test-slow docs mutants bench bench-sample-factory clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 30

demo: $(VENV)/.installed  ## watch an agent learn to remember
	@$(BIN)/python -m scripts.demo

test: $(VENV)/.installed  ## run the fast tests
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS)

check: $(VENV)/.installed  ## check format, lint, types and the layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy -p rlstm
	@$(BIN)/lint-imports --no-logo

test-slow: $(VENV)/.installed  ## run the slow tests: agents learn, full products
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) -m slow

docs: $(VENV)/.installed  ## build the site of the documentation in build/site
	@$(BIN)/python -m scripts.site.generate
	@$(BIN)/python -m sphinx -W --keep-going -q -c docs build/site-source build/site
	@echo 'Open build/site/index.html'

mutants: $(VENV)/.installed  ## break the library in many small ways: do the tests notice? (K=word for some)
	@$(BIN)/python -m scripts.mutants --jobs $(WORKERS) $(if $(K),-k $(K))

bench: $(BENCH_VENV)/.installed  ## compare with the recurrent PPO of sb3-contrib and CleanRL's pattern
	@$(BENCH_VENV)/bin/python -m scripts.benchmarks.cells
	@$(BENCH_VENV)/bin/python -m scripts.benchmarks.recurrent_ppo

bench-sample-factory: $(BENCH_VENV)/.installed $(SAMPLE_FACTORY_VENV)/.installed  ## and with Sample Factory; writes the table
	@$(BENCH_VENV)/bin/python -m scripts.benchmarks.recurrent_ppo \
		--python sample-factory=$(SAMPLE_FACTORY_VENV)/bin/python

clean:  ## remove builds and caches; environments and runs stay
	@rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage htmlcov
	@find . -name '.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is set up once, and again when the dependencies or their pins change. One pip command with the
# constraints resolves everything, so no second torch is ever fetched.
$(VENV)/.installed: EXTRA := dev,docs
$(BENCH_VENV)/.installed: EXTRA := bench
$(VENV)/.installed $(BENCH_VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'rlstm needs Python >= 3.11, but $(PYTHON) is "'"$$($(PYTHON) --version 2>&1)"'";' \
			'name another: make PYTHON=/path/to/python' >&2; exit 1; }
	@echo 'Installing into $(@D) ...' >&2
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(PIP_INSTALL) --constraint constraints.txt --editable '.[$(EXTRA)]'
	@touch $@

# Sample Factory needs older versions of Gymnasium and numpy than this project, so it has pins of its own.
$(SAMPLE_FACTORY_VENV)/.installed: scripts/benchmarks/peers/sample-factory.txt
	@echo 'Installing into $(@D) ...' >&2
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(PIP_INSTALL) --requirement $<
	@touch $@
