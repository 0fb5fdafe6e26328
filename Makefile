# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
TWINS := .venv-twins
BIN := $(VENV)/bin
# Processes that share the tests, a file to one; WORKERS=0 for one process, to debug in.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.PHONY: demo install twins try-twins test test-slow test-faults test-gcp check bench lock image clean

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

# Servers on loopback that stand for BigQuery and Cloud Storage; tests that need them are skipped without a Python 3.13.
twins:
	$(PYTHON) tests/twins/environment.py $(TWINS)

try-twins:
	$(PYTHON) tests/twins/environment.py $(TWINS) $(if $(filter 1,$(REQUIRE_TWINS)),,--optional)

test: install try-twins
	$(PYTEST)

test-slow: install try-twins $(VENV)/bench-installed
	$(PYTEST) -m slow --durations=25

# Every fault at every call, of which test-slow tries a part: about an hour.
test-faults: install try-twins
	FORETABLE_ALL_FAULTS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m slow --timeout 0 --durations=0 tests/test_cloud_faults.py tests/test_bigquery_races.py

# On the real Google Cloud: see tests/test_gcp.py for the project, bucket and dataset to name.
test-gcp: install
	$(BIN)/python -m pytest -m gcp

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

# The image of the Dockerfile; IMAGE is its name, such as REGION-docker.pkg.dev/PROJECT/REPOSITORY/foretable. Its tag says
# what is in it, with a digest of the code and of the lock, and `foretable doctor` compares that with what is here.
IMAGE ?= foretable
IMAGE_PYTHON ?= 3.11
image:
	beam=$$(sed -n 's/^apache-beam==\([^ ;]*\).*/\1/p' requirements.lock) && \
	tag=$$($(PYTHON) -m beam_jobs.doctor.images $(IMAGE_PYTHON) $$beam) && \
	docker build --build-arg PYTHON=$(IMAGE_PYTHON) --build-arg BEAM=$$beam --tag $(IMAGE):$$tag . && \
	echo $(IMAGE):$$tag

clean:
	rm -rf $(VENV) $(TWINS) build *.egg-info
