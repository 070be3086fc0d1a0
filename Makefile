# Every target works on a fresh machine that has Python 3.11 or newer and make: the first one
# that needs it builds .venv from pyproject.toml and constraints.txt, and later ones reuse it.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
DEMO_DIR ?= demo-output
CHAOS_RUNS ?= 20
CHAOS_SEED ?= 0

.PHONY: help setup venv demo test cluster chaos slurm monitoring sbom audit lint format bench manifests check-install clean distclean

help:
	@echo "make demo       reconstruct a simulated and a real tilt series (into $(DEMO_DIR)/)"
	@echo "make test       the tests                  PYTEST_ARGS='-k name' selects"
	@echo "make cluster    the tests that lose, refuse and lock out whole clusters, as an operator meets them"
	@echo "make chaos      $(CHAOS_RUNS) runs with killed workers, nodes and drivers (CHAOS_RUNS=100, CHAOS_SEED=0)"
	@echo "make slurm      jobs on a SLURM of two virtual nodes (root; installs Debian's SLURM where there is none)"
	@echo "make monitoring alert rules and dashboard against a real Prometheus (fetched from Debian if it is missing)"
	@echo "make sbom       write sbom.json (CycloneDX): all that is installed here, with versions and licences; offline"
	@echo "make audit      look these up among known vulnerabilities; needs the network"
	@echo "make lint       ruff, mypy, import-linter; sentences, links and spelling of the documentation"
	@echo "make format     rewrite the code in the project's format"
	@echo "make manifests  write the committed manifests of deploy/ again"
	@echo "make check-install  run the install steps of deploy/docker/Dockerfile, without a container engine (two minutes)"
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

cluster: $(INSTALLED)
	$(PY) -m pytest -m cluster $(PYTEST_ARGS)

chaos: $(INSTALLED)
	$(PY) -m pytest -m chaos tests/chaos
	$(PY) -m tests.chaos --runs $(CHAOS_RUNS) --seed $(CHAOS_SEED)

slurm: $(INSTALLED)
	$(PY) -m pytest -m slurm tests/deploy/test_slurm_runs.py $(PYTEST_ARGS)

# Prometheus is unpacked from Debian's package, not installed: that would start a server. No root is needed, but
# for `apt-get update` where the machine has no lists. Without it the tests are skipped, saying so;
# DDGM_REQUIRE_MONITORING=1 makes that a failure.
PROMETHEUS := $(VENV)/prometheus
monitoring: $(INSTALLED)
	@command -v promtool >/dev/null || test -x $(PROMETHEUS)/usr/bin/promtool || { \
	  mkdir -p $(PROMETHEUS) && cd $(PROMETHEUS) && \
	  { apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; } && \
	  dpkg-deb -x prometheus_*.deb . && rm -f prometheus_*.deb; } || \
	  echo "Prometheus could not be fetched: install Debian's package prometheus, or put promtool and prometheus on PATH"
	PATH="$$PATH:$(abspath $(PROMETHEUS))/usr/bin" $(PY) -m pytest -m monitoring tests/deploy $(PYTEST_ARGS)

sbom: $(INSTALLED)
	$(VENV)/bin/cyclonedx-py environment --output-reproducible --output-format JSON --output-file sbom.json $(PY)

# pip-audit is installed apart: only this needs it. --strict: what could not be looked up is a failure.
AUDIT := $(VENV)/audit
audit: $(INSTALLED)
	@echo "The names and versions of what is installed are looked up over the network; offline this fails. make sbom needs none."
	@test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && \
	  $(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.9'; }
	@$(PY) -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > $(AUDIT)/installed.txt
	$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip --requirement $(AUDIT)/installed.txt

lint: $(INSTALLED)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(PY) -m tests.prose
	$(VENV)/bin/codespell README.md CONTRIBUTING.md SECURITY.md Makefile docs deploy ddgm_dist tests benchmarks

format: $(INSTALLED)
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

bench: $(INSTALLED)
	$(PY) benchmarks/quality.py

manifests: $(INSTALLED)
	$(PY) deploy/regenerate.py

check-install: $(INSTALLED)
	$(PY) deploy/docker/check_install.py

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	rm -rf $(DEMO_DIR) sbom.json
	find ddgm_dist tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
