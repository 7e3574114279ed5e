# make test [STACK=official|onedl] [PYTHON=python3.11]: the environment, once, then the tests.
STACK ?= official
PYTHON ?= python3
VENV := .venv/$(STACK)
STAMP := $(VENV)/.ready

.PHONY: test env
test: env
	$(VENV)/bin/python -m pytest -q tests

env: $(STAMP)

$(STAMP): tools/setup_env.sh tools/constraints/$(STACK).txt setup.py
	bash tools/setup_env.sh $(STACK) $(VENV) $(PYTHON)
	touch $@
