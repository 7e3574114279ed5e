# make test [STACK=official|onedl] [PYTHON=python3.11]: create the environment if needed, then run the tests.
# Without STACK and PYTHON, tools/choose_python.sh chooses: Python 3.10 or 3.11 for the official stack, 3.12 for OneDL.
# make quickstart: create the environment if needed, then train and test ZegFormer on the procedural dataset, and draw the results.
# make gpu-report: check and measure mmzeg on a GPU, and write work_dirs/gpu_report/gpu_report.md. DEVICE=cpu: with small sizes.
# make docs: build docs/en as a site in docs/site.
CHOICE := $(shell bash tools/choose_python.sh '$(STACK)' '$(PYTHON)')
ifeq ($(CHOICE),)
$(error no Python that fits STACK='$(STACK)' PYTHON='$(PYTHON)': install Python 3.11 (official stack) or 3.12 (OneDL), or name one: make PYTHON=/path/to/python3.11)
endif
override STACK := $(word 1,$(CHOICE))
override PYTHON := $(word 2,$(CHOICE))
VENV := .venv/$(STACK)
STAMP := $(VENV)/.ready

DEVICE ?= cuda

.PHONY: test quickstart gpu-report docs env lint format wheel clean
test: env
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder tests

quickstart: env
	$(VENV)/bin/python tools/world/quickstart.py

gpu-report: env
	$(VENV)/bin/python tools/gpu_report.py --device $(DEVICE)

docs: env
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict -f docs/mkdocs.yml

env: $(STAMP)

$(STAMP): tools/setup_env.sh tools/setup_browser.sh tools/constraints/$(STACK).txt setup.py pyproject.toml
	bash tools/setup_env.sh $(STACK) $(VENV) $(PYTHON)
	touch $@

lint: env
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: env
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

wheel: env
	$(VENV)/bin/python setup.py -q sdist -d dist
	$(VENV)/bin/python -m pip wheel --no-deps --no-build-isolation -w dist .

clean:
	rm -rf build dist docs/site *.egg-info .pytest_cache .ruff_cache
