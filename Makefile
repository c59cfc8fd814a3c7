# `make demo` runs a demo; `make test` runs all tests. Nothing is installed outside this folder,
# except by `make system-packages`, which only CI and Debian users need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LABEL_STUDIO_VENV := .venv-label-studio
PIP := -m pip --disable-pip-version-check install --quiet
BACKEND_READY := $(VENV)/.ready
DEV_READY := $(VENV)/.ready-dev
LABEL_STUDIO_READY := $(LABEL_STUDIO_VENV)/.ready

export HF_HUB_OFFLINE ?= 0

.PHONY: help demo serve test check lint types unit integration browser chaos integration-and-browser format doctor \
	demo-pack face-models bench bench-search screenshots clean system-packages install install-dev

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

install: $(BACKEND_READY)  ## Create .venv and install the backend
install-dev: $(DEV_READY)

demo: $(BACKEND_READY) $(LABEL_STUDIO_READY)  ## Run a demo with a real Label Studio (HEADLESS=1: check and exit)
	@$(BIN)/eacps demo --label-studio $(LABEL_STUDIO_VENV)/bin/label-studio $(if $(filter 1 yes true,$(HEADLESS)),--headless)

serve: $(BACKEND_READY)  ## Run the web server and workers with your settings (.env)
	@$(BIN)/eacps serve

doctor: $(BACKEND_READY)  ## Check the machine, weights, database and Label Studio
	@$(BIN)/eacps doctor

check: $(DEV_READY) lint types unit  ## Run lint, types and unit tests (about 2 minutes)

lint: $(DEV_READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(DEV_READY)
	@$(BIN)/mypy backend/eacps model.py _wsgi.py demo benchmarks tests

unit: $(DEV_READY)
	@HF_HUB_OFFLINE=1 $(BIN)/pytest tests/unit -n logical --maxprocesses 4 --dist worksteal

integration: $(DEV_READY) $(LABEL_STUDIO_READY)
	@HF_HUB_OFFLINE=1 $(BIN)/pytest tests/integration

browser: $(DEV_READY) $(LABEL_STUDIO_READY)
	@HF_HUB_OFFLINE=1 $(BIN)/pytest tests/browser

chaos: $(DEV_READY) $(LABEL_STUDIO_READY)  ## Kill, freeze and cut off everything (MINUTES=60, SEED=1: a long run)
ifdef MINUTES
	@HF_HUB_OFFLINE=1 $(BIN)/python -m tests.chaos.faults --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))
else
	@HF_HUB_OFFLINE=1 $(if $(SEED),EACPS_TEST_SEED=$(SEED)) $(BIN)/pytest tests/chaos
endif

test: check  ## Run all tests: check, then Label Studio, browser and chaos tests
	@$(MAKE) --no-print-directory $(LABEL_STUDIO_READY)
	@# Side by side, because they mostly wait for processes to start and to be missed.
	@$(MAKE) --no-print-directory --keep-going --jobs 2 integration-and-browser chaos

integration-and-browser: $(DEV_READY) $(LABEL_STUDIO_READY)
	@HF_HUB_OFFLINE=1 $(BIN)/pytest tests/integration tests/browser

format: $(DEV_READY)  ## Format the code with ruff
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

demo-pack: $(BACKEND_READY)  ## Train the demo's models (about an hour; QUICK=1: smoke test)
	@$(BIN)/python -m demo.training --out out/demo-pack $(if $(QUICK),--quick)

face-models: $(BACKEND_READY)  ## Download the free models of face engine `basic` (12 MB; docs/faces.md)
	@$(BIN)/eacps face-models

bench: $(BACKEND_READY)  ## Measure engine overhead, memory and enqueueing (docs/results)
	@$(BIN)/python -m benchmarks.engine --out docs/results

bench-search: $(DEV_READY)  ## Compare all searches with an oracle (over an hour; QUICK=1: a few minutes)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.search --workers 2 $(if $(QUICK),--quick)

screenshots: $(DEV_READY) $(LABEL_STUDIO_READY)  ## Take the README's screenshots
	@HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.screenshots --out docs/images

clean:  ## Remove environments, caches and the demo's data, but not your data in .eacps
	rm -rf $(VENV) $(LABEL_STUDIO_VENV) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis backend/*.egg-info build dist

system-packages:  ## Install a browser and a database server for the tests (Debian)
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends chromium postgresql

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is required; set PYTHON=/path/to/python3.11")'
	@$(PYTHON) -m venv $(VENV)

$(BACKEND_READY): $(VENV)/bin/python requirements.txt requirements-no-deps.txt pyproject.toml
	@echo "Installing the backend into $(VENV) (several GB: PyTorch; a few minutes the first time) …"
	@$(BIN)/python $(PIP) -r requirements.txt
	@$(BIN)/python $(PIP) --no-deps -r requirements-no-deps.txt
	@$(BIN)/python $(PIP) --no-deps --editable .
	@touch $@

$(DEV_READY): $(BACKEND_READY) requirements-dev.txt
	@echo "Installing the test tools …"
	@$(BIN)/python $(PIP) -r requirements-dev.txt
	@touch $@

$(LABEL_STUDIO_READY): requirements-label-studio.txt
	@echo "Installing Label Studio into $(LABEL_STUDIO_VENV) …"
	@$(PYTHON) -m venv $(LABEL_STUDIO_VENV)
	@$(LABEL_STUDIO_VENV)/bin/python $(PIP) -r requirements-label-studio.txt
	@touch $@
