# Everything works on a fresh machine that has Python 3.11 or newer and make.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REQUIREMENTS := deploy/requirements

.PHONY: help run demo unit test soak check format migration bench lock docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {name[++n] = $$1; says[n] = $$2; if (length($$1) > width) width = length($$1)} \
	  END {for (i = 1; i <= n; i++) printf "  \033[36mmake %-" width "s\033[0m %s\n", name[i], says[i]}' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp ## Run everything: PostgreSQL, Valkey, API, workers (Ctrl-C stops it)
	@exec $(BIN)/pointsman run

demo: $(VENV)/run.stamp ## Fire the demo callback of a running Pointsman and watch its steps
	@exec $(BIN)/pointsman demo

PYTEST := $(BIN)/python -m pytest -p no:cacheprovider
unit: $(VENV)/dev.stamp ## Run what needs no server: the unit and architecture tests (half a minute)
	@exec $(PYTEST) -q -n 2 --dist loadfile tests/unit tests/architecture

# A file to a process. Faults mostly wait, so that three share two cores; those under heavy load have it for themselves.
# Coverage is of what runs in the tests' own processes. Its floor is judged at the end.
test: $(VENV)/dev.stamp ## Run the whole test suite on servers of its own (TESTS=path for a part)
ifdef TESTS
	@exec $(PYTEST) $(TESTS)
else
	@$(PYTEST) -q -n 2 --dist loadfile --cov --cov-report= --cov-fail-under=0 tests/unit tests/integration
	@$(PYTEST) -q -n 2 --dist loadfile tests --ignore=tests/unit --ignore=tests/integration --ignore=tests/faults
	@$(PYTEST) -q -n 3 --dist loadfile -m "not load" tests/faults
	@$(PYTEST) -q -m load tests/faults
	@printf 'Coverage by unit and integration tests, in per cent: '; $(BIN)/coverage report --format=total --precision=1 || \
	  { [ $$? = 2 ] && echo "That is below the floor: fail_under, in [coverage:report] of setup.cfg. What is not covered: $(BIN)/coverage report -m"; exit 1; }
endif

soak: $(VENV)/dev.stamp ## Run the fault tests in full size, with progress (about 50 minutes)
	@POINTSMAN_SOAK=1 exec $(PYTEST) -v -s --timeout 1200 $(or $(TESTS),tests/faults)

check: $(VENV)/dev.stamp ## Formatter, linter, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp ## Format the code and fix what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

migration: $(VENV)/dev.stamp ## Make the next file in migrations/versions (NAME=add_something)
	@exec $(BIN)/python -m migrations.new $(if $(filter command,$(origin NAME)),"$$NAME")

bench: $(VENV)/bench.stamp ## Measure Pointsman beside a bare Flask + Celery pipeline (BENCH="--quick" for a look)
	@exec $(BIN)/python -m tests.benchmarks $(BENCH)

docs: $(VENV)/run.stamp ## Make docs/configuration.md anew from the settings
	$(BIN)/pointsman settings > docs/configuration.md

lock: $(VENV)/uv.stamp ## Pin the newest versions that fit, with hashes
	cd $(REQUIREMENTS) && for name in run dev bench bootstrap; do \
	  ../../$(BIN)/uv pip compile -q --upgrade --generate-hashes --universal --python-version 3.11 \
	    --custom-compile-command "make lock" $$name.in -o $$name.txt || exit 1; done

clean: ## Remove the virtual environment and caches; the data in .pointsman/ stays
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .coverage.*

$(VENV)/uv.stamp: $(REQUIREMENTS)/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Pointsman needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11 …"; exit 1; }
	@echo "Making the virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(REQUIREMENTS)/bootstrap.txt
	@touch $@

$(VENV)/run.stamp: $(VENV)/uv.stamp $(REQUIREMENTS)/run.txt setup.cfg
	@echo "Installing what Pointsman runs on"
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $(REQUIREMENTS)/run.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp $(REQUIREMENTS)/dev.txt
	@echo "Installing what tests and checks need"
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $(REQUIREMENTS)/dev.txt
	@touch $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp $(REQUIREMENTS)/bench.txt
	@echo "Installing what benchmarks need"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(REQUIREMENTS)/bench.txt
	@touch $@
