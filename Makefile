# Every target makes what it needs first: on a fresh machine, `make demo` is the only command.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo ui test check bench cluster docs locks clean

demo: $(READY)
	@$(BIN)/finetune-assets demo

ui: $(READY)
	@$(BIN)/finetune-assets ui

test: $(READY)
	@$(BIN)/python -m pytest

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/dg check defs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "The documentation: var/site/index.html"

bench: $(READY)
	@for claim in benchmarks/[a-z]*.py; do echo "== $$claim"; PYTHONPATH=. $(BIN)/python $$claim || exit 1; done

cluster: .venv/.cluster
	@$(BIN)/python -m deploy.cluster

locks: $(READY)
	@$(BIN)/python locks/write.py

clean:
	rm -rf .venv var data/outputs

# The base models are made last, so that an interrupted set-up is taken up where it stopped.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the dependencies (some minutes, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "torch"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[data,server,feedback,dev]"
	@$(BIN)/python -m finetune_assets.server.base_models
	@touch $(READY)

.venv/.cluster: $(READY)
	@echo "Installing what a cluster needs beside (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[cluster]"
	@touch $@
