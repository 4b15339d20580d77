# `make demo` and `make test` are all a fresh clone needs; both make .venv when it is missing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The first interpreter that runs, is new enough and can make an environment; 3.11 is where everything is tested.
PYTHON ?= $(shell for python in python3.11 python3 python3.13 python3.12; do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$python"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
DEMO_NETWORK ?= examples/resnet18.onnx
PYTEST_FLAGS ?=

.PHONY: help demo test clean

help:
	@echo "make demo    make $(VENV), install aiop, predict for $(DEMO_NETWORK), fit a head to 20 labels"
	@echo "make test    make $(VENV), install aiop and the developer tools, run every check and test"
	@echo "make clean   remove $(VENV) and every cache"

demo: $(VENV)/.runtime
	$(BIN)/aiop inspect $(DEMO_NETWORK)
	$(BIN)/aiop predict $(DEMO_NETWORK)
	$(BIN)/aiop finetune digits-ofa --metric segmentation/digits-ofa/panoptic-pq --budget 20 -o $(VENV)/demo.head

test: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest $(PYTEST_FLAGS)

# A stamp stands only for an installation that finished. Where none stands the environment is made anew, so one that
# was interrupted half-way is never built upon.
define install
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 with venv found; pass one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@if ! ls $(VENV)/.runtime $(VENV)/.dev >/dev/null 2>&1; then rm -rf $(VENV); "$(PYTHON)" -m venv $(VENV); fi
	@rm -f $(VENV)/.runtime $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '$(1)'
endef

$(VENV)/.runtime: pyproject.toml constraints.txt
	$(call install,.)
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(call install,.[dev])
	@touch $(VENV)/.runtime $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
	find aiop tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
