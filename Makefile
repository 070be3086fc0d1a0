# Every target works on a fresh machine that has Python 3.11 or newer and make: the first one
# that needs it builds .venv from pyproject.toml and constraints.txt, and later ones reuse it.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
DEMO_DIR ?= demo-output
CHAOS_RUNS ?= 20
CHAOS_SEED ?= 0

.PHONY: help setup venv demo test chaos slurm lint format bench clean distclean

help:
	@echo "make demo       reconstruct a simulated and a real tilt series (into $(DEMO_DIR)/)"
	@echo "make test       the tests                  PYTEST_ARGS='-k name' selects"
	@echo "make chaos      $(CHAOS_RUNS) runs with killed workers, nodes and drivers (CHAOS_RUNS=100, CHAOS_SEED=0)"
	@echo "make slurm      jobs on a SLURM of two virtual nodes (root; installs Debian's SLURM where there is none)"
	@echo "make lint       ruff, mypy, import-linter"
	@echo "make format     rewrite the code in the project's format"
	@echo "make bench      the table of reconstruction quality (needs ../shared/data)"
	@echo "make setup      only install, into $(VENV)/; PYTHON=python3.12 picks the interpreter"
	@echo "make clean      remove caches and $(DEMO_DIR)/; make distclean removes $(VENV)/ too"

setup venv: $(INSTALLED)

# The stamp is written last, so an interrupted installation is taken up again.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12")'
	@echo "Installing into $(VENV)/ (several minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(PY) -m ddgm_dist demo $(DEMO_DIR)

test: $(INSTALLED)
	$(PY) -m pytest $(PYTEST_ARGS)

chaos: $(INSTALLED)
	$(PY) -m pytest -m chaos tests/chaos
	$(PY) -m tests.chaos --runs $(CHAOS_RUNS) --seed $(CHAOS_SEED)

slurm: $(INSTALLED)
	$(PY) -m pytest -m slurm tests/deploy/test_slurm_runs.py $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

format: $(INSTALLED)
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

bench: $(INSTALLED)
	$(PY) benchmarks/quality.py

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	rm -rf $(DEMO_DIR)
	find ddgm_dist tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
