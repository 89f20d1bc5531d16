# make demo | test | lint | bench | soak: each does all its own set-up in .venv; quick the second time.

VENV := .venv
PYTHON ?= $(firstword $(foreach each,python3.13 python3.12 python3.11 python3,$(shell $(each) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(each))))
BIN := $(VENV)/bin

.PHONY: demo test lint format bench soak docs clean

demo: $(VENV)/.demo
	@$(BIN)/outlive demo $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks $(ARGS)

soak: $(VENV)/.test
	OUTLIVE_STEPS=20000 OUTLIVE_KILLS=200 $(BIN)/python -m pytest -m "soak or not soak" tests $(ARGS)

docs: $(VENV)/.test
	$(BIN)/python -m agent.config.reference > docs/configuration.md

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.demo: setup.cfg pyproject.toml | $(VENV)/bin/pip
	@echo "setting up $(VENV) (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: setup.cfg pyproject.toml | $(VENV)/bin/pip
	@echo "setting up $(VENV) for tests (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.lint: setup.cfg pyproject.toml | $(VENV)/bin/pip
	@echo "setting up $(VENV) for the linters (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@ $(VENV)/.test $(VENV)/.demo

$(VENV)/bin/pip:
	@test -n "$(PYTHON)" || { echo "outlive needs Python 3.11 or later: install the package python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "outlive's set-up needs venv and pip: install the package python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
