# `make help` says what there is. Python 3.11 or later and make are enough. PYTHON=... picks another interpreter for .venv.
# npm installs what the console's pages load; where there is none, it comes as a wheel.

MAKEFLAGS += --no-print-directory
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHONS := python3.14 python3.13 python3.12 python3.11  # that are supported
CANDIDATES := $(or $(PYTHON),$(PYTHONS) python3)
WORKERS := 4  # of pytest; the tests wait more than they compute
# What `make fast` runs: no browser, no process of the platform, nothing that is marked slow. A minute on two quiet cores.
FAST := tests/agent tests/lib tests/ingest tests/api tests/streams tests/devices tests/intakes tests/accounts tests/events tests/hosts tests/deploy tests/processes tests/test_*.py
CODE := thingscale ingest api console agent tests benchmarks scripts manage.py
RECENT := import sys; sys.exit(sys.version_info < (3, 11))

# The machine's npm, else one from a wheel.
NPM := command -v npm >/dev/null || { \
    $(BIN)/pip install --quiet --require-hashes -r requirements-node.txt; PATH="$(CURDIR)/$(BIN):$$PATH"; }

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export PIP_NO_INPUT := 1

.PHONY: help install run test fast fmt lint coverage pythons drill bench shape openapi translations lock audit
.DEFAULT_GOAL := run

help:  ## what there is
	@sed -n 's/^\([a-z]*\):.*  ## /\1|/p' Makefile | while IFS='|' read -r name text; do printf 'make %-9s %s\n' "$$name" "$$text"; done

install: $(VENV)/.installed node_modules/.installed  ## what the platform needs to run, for a supervisor of your own

run: install  ## the whole platform on this machine (manage.py up)
	@$(BIN)/python manage.py up

# What fails runs once more, so that one of ten thousand that met a stall of the machine does not hide all others;
# the summary shows how it failed the first time.
test: lint node_modules/.installed-dev  ## lint, types, import contracts and all tests, the drills in their short form
	@$(BIN)/python -m pytest -q -n $(WORKERS) --reruns 1

# Two workers: these tests compute, and each worker first has to start servers and make a database.
fast: $(VENV)/.installed-dev node_modules/.installed-dev  ## the tests that need a minute together
	@$(BIN)/python -m pytest -q -n 2 -m "not slow and not e2e and not drill" $(FAST)

fmt: $(VENV)/.installed-dev  ## format, and mend what ruff can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lint: $(VENV)/.installed-dev  ## style, format, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports

coverage: $(VENV)/.installed-dev node_modules/.installed-dev  ## branch coverage of all tests, or of ONLY="tests/api"
	@$(BIN)/python -m pytest -q -n $(WORKERS) --timeout 600 --cov --cov-report term --cov-report html $(ONLY)

pythons: $(BIN)/pip  ## compile all, and run the fast tests, under each other supported Python of this machine
	@own=$$($(BIN)/python -c 'import sys; print("python%d.%d" % sys.version_info[:2])') || exit 1; \
	for python in $(PYTHONS); do \
	    if [ $$python = $$own ] || ! $$python -c '$(RECENT)' 2>/dev/null; then continue; fi; \
	    echo "$$python:"; \
	    $$python -W error -m compileall -q -f $(CODE) || exit 1; \
	    $(MAKE) .venv-$$python/.installed-dev PYTHON=$$python VENV=.venv-$$python || { \
	        echo "$$python: what we need can't be installed for it: no tests" >&2; continue; }; \
	    $(MAKE) fast PYTHON=$$python VENV=.venv-$$python || exit 1; \
	done

drill: $(VENV)/.installed-dev  ## the drills in their long form: kills, stops, full disks, storms, and an exact count after each
	@THINGSCALE_DRILL=long $(BIN)/python -m pytest -v -m drill --timeout 1800 --durations 0 --log-cli-level INFO tests/drills

bench: $(VENV)/.installed-dev node_modules/.installed-dev  ## all benchmarks, into docs/benchmarks.md; ONLY="idle pages" prints some
	@$(BIN)/python benchmarks/suite.py $(ONLY)

shape: $(VENV)/.installed-dev  ## how hard the code is to read, in figures
	@$(BIN)/python scripts/shape.py --ways

translations: $(VENV)/.installed-dev  ## find marked texts, and compile the translations
	@$(BIN)/python scripts/translations.py

openapi: $(VENV)/.installed-dev  ## write api/openapi-v2.yaml again
	@$(BIN)/python manage.py write_openapi

lock: $(VENV)/.installed-dev  ## pin what the requirements*.in name
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements.in -o requirements.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements-dev.in -o requirements-dev.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements-node.in -o requirements-node.txt

# Ends with an error where there are advisories, and where the services could not be asked.
audit: $(VENV)/.installed-dev node_modules/.installed-dev  ## advisories about what we install; says so if it can't ask
	@$(NPM); $(BIN)/python scripts/audit.py

# The development requirements include the others.
$(VENV)/.installed: requirements.txt | $(BIN)/pip
	@test $(VENV)/.installed-dev -nt requirements.txt || $(BIN)/pip install --quiet --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt requirements.txt | $(BIN)/pip
	@$(BIN)/pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $@

node_modules/.installed: package-lock.json | $(BIN)/pip
	@test node_modules/.installed-dev -nt package-lock.json || { $(NPM); npm ci --omit=dev --silent; }
	@touch $@

node_modules/.installed-dev: package-lock.json | $(BIN)/pip
	@$(NPM); npm ci --silent
	@touch $@

$(BIN)/pip:
	@for python in $(CANDIDATES); do \
	    if $$python -c '$(RECENT)' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "ThingScale needs Python 3.11 or later (looked for: $(CANDIDATES)); make PYTHON=/path/to/python names another." >&2; \
	    exit 1; \
	fi; \
	$$found -m venv --clear $(VENV) >/dev/null 2>&1 || { \
	    rm -rf $(VENV); \
	    echo "$$found can't make a virtual environment: install its venv module (on Debian: apt install python3-venv)." >&2; \
	    exit 1; \
	}
