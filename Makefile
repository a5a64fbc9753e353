# Everything a person needs, on a machine with Python 3.11+ and make.
#
#   make run     the service on :8000, SQLite in ./data
#   make test    linters, all tests and, beside them, types
#   make test-long  the same, and a torture run for each of SEEDS, MINUTES long
#   make bench   every benchmark, about 20 minutes; benchmarks/README.md (needs Postfix)
#   make docs    the site, in build/docs; whether the generated pages are up to date; the next
#                release's notes
#   make sbom    what the image is made of (CycloneDX), in dist
#   make audit   whether anything of it is known to be vulnerable
#
# PYTHON=python3.12 make venv chooses the interpreter.

# The first of these that is new enough.
PYTHON ?= $(firstword $(foreach python,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
    $(python) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(python))) python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := mailproxy twisted/plugins/mailproxy_plugin.py tests benchmarks tools examples docs/generate.py docs/endpoints.py docs/conf.py

# How long each torture run of `make test-long` is, and from which seeds they are.
MINUTES ?= 10
SEEDS ?= 1 2 3

.PHONY: run test test-long torture lint types format venv lock bench docs sbom audit clean

run: venv
	$(BIN)/mailproxy serve

# Three processes of tests, which take from each other what is left, for many of them wait. Tests
# start Python more than a hundred times: where it is told to keep no compiled files, it keeps them
# here. The types are checked beside them, by one process; what it found is told
# last, and either of the two fails the whole.
test: lint
	@mkdir -p build
	@$(BIN)/mypy $(SOURCES) > build/types.txt 2>&1 & types=$$!; \
	    PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist worksteal tests; tests=$$?; \
	    wait $$types; types=$$?; cat build/types.txt; exit $$((tests | types))

test-long: test
	$(MAKE) torture

# Mail under kill -9: what was accepted, arrived and was reported must agree. NODES: further options.
NODES ?=
torture: venv
	for seed in $(SEEDS); do \
	    PYTHONDONTWRITEBYTECODE= $(BIN)/mailproxy torture --minutes $(MINUTES) --seed $$seed $(NODES) || exit 1; \
	done

lint: venv
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check --no-cache $(SOURCES)

types: venv
	$(BIN)/mypy $(SOURCES)

format: venv
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: venv
	$(BIN)/python -m benchmarks

docs: venv
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m mailproxy.cli.reference --check docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d build/docs/.trees docs build/docs
	$(BIN)/towncrier build --draft --version next

# What the image is made of, and whether anything of it, or of what it is tested with, is known to be
# vulnerable.
sbom: venv
	$(BIN)/python -m tools.sbom dist/sbom.cdx.json

audit: venv
	$(BIN)/python -m tools.audit

venv: $(STAMP)

# The locks carry a hash for every file; the project itself is installed without resolving again.
# Peers are programs whose own code the tests run: large, so not compiled, and without the much that
# they depend on, for which the tests stand in.
$(STAMP): requirements.lock requirements-peers.lock setup.cfg
	test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mailproxy needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --no-compile -r requirements-peers.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# Needs uv on the PATH; the results serve every CPython from 3.11 on, x86-64 and arm64.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    -o requirements.lock requirements.in setup.cfg
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -c requirements.lock \
	    --extra dkim --extra large-files --extra postgresql -o requirements-image.lock setup.cfg
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -c requirements.lock \
	    -o requirements-build.lock requirements-build.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-deps \
	    -o requirements-peers.lock requirements-peers.in

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
