# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TODAY := $(shell date -u +%F)

.PHONY: demo install test test-slow check bench lock clean

demo: install
	$(BIN)/foretable run configs/natality.yaml
	$(BIN)/foretable lookup configs/natality.yaml is_male=True mother_age=29 'plurality=Single(1)' gestation_weeks=39

install: $(VENV)/installed

$(VENV)/installed: requirements.lock setup.py
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "foretable needs Python 3.11 to 3.13: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

test: install
	$(BIN)/python -m pytest

test-slow: install $(VENV)/bench-installed
	$(BIN)/python -m pytest -m slow

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every path of the scoring benchmark in one run, with Ray, which nothing else needs; BENCH='--quick' to try it.
bench: install $(VENV)/bench-installed
	$(BIN)/python -m benchmarks.scoring --output benchmarks $(BENCH)

$(VENV)/bench-installed: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --no-build-isolation --editable '.[bench]'
	touch $@

# The lock: every version that setup.py's ranges resolve to, for all Pythons it allows.
lock: install
	$(BIN)/uv pip compile setup.py --extra dev --universal --python-version 3.11 --upgrade --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info
