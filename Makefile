# make demo | test | lint | bench | soak: each does all its own set-up in .venv; quick the second time.

VENV := .venv
PYTHON ?= $(firstword $(foreach each,python3.13 python3.12 python3.11 python3,$(shell $(each) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(each))))
BIN := $(VENV)/bin

KILLS ?= 200
STEPS ?= 20000
FILES ?= 20000

.PHONY: demo test lint format bench soak soak-steps soak-kills soak-files docs clean

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

soak: soak-kills soak-steps soak-files

soak-kills: $(VENV)/.test $(BIN)/logrotate
	OUTLIVE_KILLS=$(KILLS) OUTLIVE_LOGROTATE=$(abspath $(BIN)/logrotate) $(BIN)/python -m pytest tests/test_soak_logs.py $(ARGS)

soak-steps: $(VENV)/.test
	OUTLIVE_STEPS=$(STEPS) $(BIN)/python -m pytest tests/test_logs_machine.py $(ARGS)

soak-files: $(VENV)/.test
	OUTLIVE_FILES=$(FILES) $(BIN)/python -m pytest tests/test_uploads_names_system.py $(ARGS)

docs: $(VENV)/.test
	$(BIN)/python -m agent.config.reference > docs/configuration.md

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The system's logrotate, or Debian's package unpacked: installed, it would begin to rotate this machine's own logs.
$(BIN)/logrotate: | $(VENV)/bin/pip
	@if found=$$(PATH="$$PATH:/usr/sbin:/sbin" command -v logrotate); then ln -s "$$found" $@; \
	elif command -v apt-get >/dev/null && command -v dpkg >/dev/null; then \
		echo "unpacking logrotate into $(VENV) (once)"; \
		mkdir -p $(VENV)/logrotate && cd $(VENV)/logrotate && apt-get -qq download logrotate libpopt0 && \
		for each in *.deb; do dpkg -x "$$each" . || exit 1; done && \
		printf '#!/bin/sh\nLD_LIBRARY_PATH=$$(echo %s/usr/lib/*) exec %s/usr/sbin/logrotate "$$@"\n' "$$PWD" "$$PWD" >logrotate && \
		chmod +x logrotate && ln -s "$$PWD/logrotate" $(abspath $@); \
	else echo "the soak needs logrotate: install the package, or run the test with OUTLIVE_LOGROTATE=/path/of/it"; exit 1; fi

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
