# The commands of a checkout. `make` alone lists them.
PYTHON ?= python3
JOBS ?= 4
MINUTES ?= 30
BIN := .venv/bin
TOOLS := .venv/tools
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/installed ## create .venv and install the project with its tools

.venv/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON): install Python 3.11 to 3.13, or make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit(f"Python {v[0]}.{v[1]} will not do: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: setup ## the whole loop on 20,000 synthetic headlines, into ./pal-demo
	$(BIN)/pal demo pal-demo --fresh

# One thread for each of the processes that run tests: more of them would wait for each other.
test test-slow: export OMP_NUM_THREADS := 1
test: setup ## the fast tests: no server, browser, office or network
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

test-slow: setup $(TOOLS)/argilla/installed $(TOOLS)/label-studio/installed ## tests/slow: real servers, browsers, kills, ...
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile tests/slow

# Annotation tools that the slow tests exchange files with. They want other versions of much: each has its own venv.
$(TOOLS)/argilla/installed: INSTALL := argilla==2.8.0 requests
$(TOOLS)/label-studio/installed: INSTALL := label-studio==1.23.0
$(TOOLS)/%/installed:
	$(PYTHON) -m venv $(TOOLS)/$*
	$(TOOLS)/$*/bin/pip install --quiet $(INSTALL)
	@touch $@

check: setup ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fuzz: setup ## every reader on ten thousand damaged files of each format
	$(BIN)/python -m pytest --numprocesses $(JOBS) --hypothesis-profile=fuzz tests/slow/test_fuzz.py

chaos: setup ## random kills, full disks and slow uploads for MINUTES minutes; lists what was lost
	$(BIN)/python tests/slow/chaos.py $(MINUTES)

bench: setup ## time and memory of a million items, the loop and every strategy, beside their floors
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python tests/benchmarks/bench.py

.PHONY: help setup demo test test-slow check fuzz chaos bench
