# The commands of a checkout. `make` alone lists them.
PYTHON ?= python3
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
	$(BIN)/python -m pip install --quiet "pip>=25.1" # the first that knows dependency groups
	$(BIN)/pip install --quiet --constraint constraints.txt --editable . --group dev
	@touch $@

demo: setup ## the whole loop on 20,000 synthetic headlines, into ./pal-demo
	$(BIN)/pal demo pal-demo --fresh

# One thread for each of the processes that run tests: more of them would wait for each other. What one process
# compiles, the others read, even where the environment says not to keep bytecode.
test test-slow: export OMP_NUM_THREADS := 1
test test-slow: export PYTHONDONTWRITEBYTECODE :=
test coverage lowest: JOBS ?= 3
# Slow tests wait more, for servers and browsers.
test-slow fuzz: JOBS ?= 4
test: setup ## the fast tests: no server, browser, office or network
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

test-slow: setup $(TOOLS)/argilla/installed $(TOOLS)/label-studio/installed $(TOOLS)/axe/installed ## tests/slow: real servers, browsers, kills, ...
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile tests/slow

# Annotation tools that the slow tests exchange files with. They want other versions of much: each has its own venv.
$(TOOLS)/argilla/installed: INSTALL := argilla==2.8.0 requests
$(TOOLS)/label-studio/installed: INSTALL := label-studio==1.23.0
# axe-core (MPL-2.0), which checks pages for barriers; the package brings it as one file.
$(TOOLS)/axe/installed: INSTALL := --no-deps axe-playwright-python==0.1.8
$(TOOLS)/%/installed:
	$(PYTHON) -m venv $(TOOLS)/$*
	$(TOOLS)/$*/bin/pip install --quiet $(INSTALL)
	@touch $@

check: setup ## format, lint, types, spelling, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/yamllint --strict .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zensical build --strict

docs: setup ## write the generated pages and build the site into ./site
	$(BIN)/python -P tests/pages.py
	$(BIN)/zensical build --strict --clean
	@echo 'Read it: $(BIN)/python -m http.server --directory site'

examples: setup ## run the commands of README and tutorial, and write their output into them
	$(BIN)/python -P tests/examples.py

pictures: setup ## take the screenshots in docs/ (needs Chromium)
	PYTHONPATH=.:tests $(BIN)/python -P tests/pictures.py

coverage: export OMP_NUM_THREADS := 1
coverage: setup ## the fast tests with branch coverage, subprocesses included
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses $(JOBS) --dist loadfile
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lowest: export OMP_NUM_THREADS := 1
lowest: ## the fast tests with the oldest dependencies that pyproject.toml allows (PyTorch as in constraints.txt)
	$(PYTHON) -m venv --clear $(TOOLS)/lowest
	$(TOOLS)/lowest/bin/python -m pip install --quiet "pip>=25.1" uv
	grep '^torch==' constraints.txt > $(TOOLS)/lowest/torch.txt
	echo '-e .[adapt,cluster,crowd,png]' > $(TOOLS)/lowest/project.in
	$(TOOLS)/lowest/bin/uv pip compile --quiet --resolution lowest-direct --group pyproject.toml:test \
		$(TOOLS)/lowest/project.in --no-emit-package pytorch-active-learning \
		--constraint $(TOOLS)/lowest/torch.txt --output-file $(TOOLS)/lowest/requirements.txt
	$(TOOLS)/lowest/bin/pip install --quiet --requirement $(TOOLS)/lowest/requirements.txt
	$(TOOLS)/lowest/bin/pip install --quiet --no-deps --editable .
	$(TOOLS)/lowest/bin/python -m pytest --numprocesses $(JOBS) --dist loadfile

fuzz: setup ## every reader on ten thousand damaged files of each format
	$(BIN)/python -m pytest --numprocesses $(JOBS) --hypothesis-profile=fuzz tests/slow/test_fuzz.py

chaos: setup ## random kills, full disks and slow uploads for MINUTES minutes; lists what was lost
	$(BIN)/python tests/slow/chaos.py $(MINUTES)

bench: setup ## time and memory of a million items, the loop and every strategy, beside their floors
	$(BIN)/pip install --quiet --constraint constraints.txt --group bench
	$(BIN)/python tests/benchmarks/bench.py

.PHONY: help setup demo test test-slow check docs examples pictures coverage lowest fuzz chaos bench
