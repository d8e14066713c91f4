# Everything a developer does. `make run` and `make test` set up what they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: setup run test check fuzz bench clean

setup: $(READY)

$(READY): pyproject.toml tools/setup.sh
	PYTHON="$(PYTHON)" sh tools/setup.sh "$(VENV)"
	@touch $@

run: $(READY)
	$(BIN)/python examples/demo/serve.py

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fuzz: $(READY)
	$(BIN)/python -m pytest fuzz -p no:randomly -q

bench: $(READY)
	$(BIN)/python bench/run.py

clean:
	rm -rf $(VENV) .bench-venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
