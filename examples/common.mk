# What the Makefiles of the examples share. Each prepares an environment of its own beside it, once.
# PACKAGES: what it needs of outrider; PYTHON=python3.13 uses another interpreter.

PYTHON ?= python3
ROOT := ../..
VENV ?= .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PACKAGES ?= -e $(ROOT)/schema -e $(ROOT)/device -e '$(ROOT)/controller[broker,hub]'
METADATA := pyproject.toml $(wildcard $(ROOT)/*/pyproject.toml) $(ROOT)/constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help environment run test clean

help: ## Say what each target does
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 22

environment: $(VENV)/.ready ## Prepare the environment of the other targets, which they do by themselves

test: environment ## Run the tests
	$(BIN)/python -m pytest $(OPTIONS)

clean: ## Remove what the other targets made
	rm -rf .venv .venv-* .pytest_cache .hypothesis build *.egg-info

$(VENV)/.ready: $(METADATA)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "This needs Python 3.11 or newer, and $(PYTHON) is not: $$($(PYTHON) --version 2>&1)." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Preparing $(VENV) with $$($(PYTHON) --version); this happens once."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip
	@$(PIP) install -c $(ROOT)/constraints.txt $(PACKAGES) -e . --group test
	@touch $@
