# Everything a developer does. `make run` and `make test` set up what they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := $(VENV)/.ready-to-run
TEST   := $(VENV)/.ready-to-test
# How long `make fuzz` and `make soak` go on; `make fuzz ONLY=parser` takes one of fuzz/test_*.py
MINUTES ?= 10
ONLY    ?=

.PHONY: setup run test check conformance faults fuzz fuzz-atheris soak bench bench-quick bench-micro clean

setup: $(TEST)

$(RUN): pyproject.toml tools/setup.sh
	PYTHON="$(PYTHON)" sh tools/setup.sh "$(VENV)" run
	@touch $@

$(TEST): pyproject.toml tools/setup.sh
	PYTHON="$(PYTHON)" sh tools/setup.sh "$(VENV)" test
	@touch $@ $(RUN)

run: $(RUN)
	$(BIN)/python examples/demo/serve.py

test: $(TEST)
	$(BIN)/python -m pytest

check: $(TEST)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

conformance: $(TEST)
	$(BIN)/python -m tests.conformance.table

fuzz: $(TEST)
	$(BIN)/python -m fuzz.run --minutes "$(MINUTES)" --only "$(ONLY)"

# TIME is in seconds, for each target; the environment is its own, for not every Python can have atheris
fuzz-atheris:
	PYTHON="$(PYTHON)" sh tools/fuzz-atheris.sh "$(or $(TIME),60)"

faults: $(TEST)
	$(BIN)/python -m tests.faults.measure

soak: $(TEST)
	$(BIN)/python -W error -m soak --minutes $(MINUTES)

bench: $(TEST)
	$(BIN)/python bench/run.py

bench-quick: $(TEST)
	$(BIN)/python bench/run.py --quick

bench-micro: $(TEST)
	$(BIN)/python -m pytest bench/micro -o addopts=--import-mode=importlib -p no:randomly -q \
		--benchmark-storage=file://.pytest_cache/benchmarks --benchmark-disable-gc \
		--benchmark-max-time=0.5 --benchmark-time-unit=us --benchmark-name=short \
		--benchmark-sort=name --benchmark-columns=min,median,iqr,rounds

clean:
	rm -rf $(VENV) .bench-venv .fuzz build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
