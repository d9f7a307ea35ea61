# make run    the whole platform on this machine (manage.py up)
# make test   lint, types, import rules, tests, the drills in their short form
# make drill  the drills in their long form: kills, stops, full disks, storms, and an exact count after each
# make bench  all benchmarks, and docs/benchmarks.md of their results; ONLY="idle pages" runs some and prints them
# make openapi writes api/openapi-v2.yaml again
# make shape  how hard the code is to read, in figures
# make audit  asks PyPI and npm for advisories about what we install, and says so if it can't
# Python 3.11 or later and make are enough. PYTHON=... picks another interpreter for .venv. npm installs what the
# console's pages load; where there is none, it comes as a wheel.

MAKEFLAGS += --no-print-directory
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
CANDIDATES := $(or $(PYTHON),python3.14 python3.13 python3.12 python3.11 python3)
WORKERS := 4  # of pytest; the tests wait more than they compute
RECENT := import sys; sys.exit(sys.version_info < (3, 11))

# The machine's npm, else one from a wheel.
NPM := command -v npm >/dev/null || { \
    $(BIN)/pip install --quiet --require-hashes -r requirements-node.txt; PATH="$(CURDIR)/$(BIN):$$PATH"; }

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export PIP_NO_INPUT := 1

.PHONY: run test drill lint lock bench openapi audit shape

run: $(VENV)/.installed node_modules/.installed
	@$(BIN)/python manage.py up

test: lint node_modules/.installed-dev
	@$(BIN)/python -m pytest -q -n $(WORKERS)

drill: $(VENV)/.installed-dev
	@THINGSCALE_DRILL=long $(BIN)/python -m pytest -v -m drill --timeout 1800 --durations 0 --log-cli-level INFO tests/drills

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports

lock: $(VENV)/.installed-dev
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements.in -o requirements.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements-dev.in -o requirements-dev.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements-node.in -o requirements-node.txt

# Ends with an error where there are advisories, and where the services could not be asked.
audit: $(VENV)/.installed-dev node_modules/.installed-dev
	@$(NPM); $(BIN)/python scripts/audit.py

openapi: $(VENV)/.installed-dev
	@$(BIN)/python manage.py write_openapi

shape: $(VENV)/.installed-dev
	@$(BIN)/python scripts/shape.py

bench: $(VENV)/.installed-dev node_modules/.installed-dev
	@$(BIN)/python benchmarks/suite.py $(ONLY)

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
