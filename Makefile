# demo, test, check, docs, bench: each makes the environment it needs, in .venv, and does nothing twice.
# What is installed there is brought up to date when a pyproject.toml has changed since.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(abspath $(VENV))/bin
METADATA := pyproject.toml $(wildcard plugins/*/pyproject.toml)
PLUGINS  := $(patsubst %,-e %,$(wildcard plugins/*))
TESTS  ?= tests
EXAMPLES ?= 2000
MINUTES ?= 5

.DEFAULT_GOAL := help
.PHONY: help demo test proof fuzz check lint types templates contracts docs site api bench format test-lowest wheels clean
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.demo  ## train on real handwritten digits from a config, stop, resume, evaluate
	$(BIN)/python examples/digits/train.py

test: $(VENV)/.test  ## all tests
	$(BIN)/python -m pytest -n auto --dist worksteal $(TESTS)

proof: $(VENV)/.test  ## search for a counterexample to the invariant: EXAMPLES cases, other ones every time
	DATARAX_PROOF_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/core/pipeline/test_invariant.py

fuzz: $(VENV)/.test  ## mutate files of every format and look for crashes and wrong data: FORMAT, SEED, MINUTES
	$(BIN)/python tests/fuzz/fuzz.py --format "$(FORMAT)" --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

check: lint types templates contracts site test  ## what CI runs: lint, types, templates, import contracts, website, tests

lint: $(VENV)/.check
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.check
	$(BIN)/mypy

KINDS := source stream view stage host-stage decoder hooks

templates: $(VENV)/.check  # what `drx new` writes is as clean as what it is written from
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && cd "$$folder" && for kind in $(KINDS); do \
	$(BIN)/drx new acme-new --kind $$kind --out $$kind > said && (cd $$kind && \
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy --cache-dir ../cache) || exit 1; done

contracts: $(VENV)/.check
	$(BIN)/lint-imports

docs: $(VENV)/.check  ## write the pages that are made from the code, and build the website into dist/site
	$(BIN)/python docs/command_line.py
	$(BIN)/python docs/architecture.py
	$(BIN)/python docs/reference.py
	$(MAKE) site SITE=dist/site

site: $(VENV)/.check  # no page is left out, no link and no anchor is dead
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder" "$$folder.log"' EXIT && \
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --config-file docs/website/mkdocs.yml \
	--site-dir "$(or $(abspath $(SITE)),$$folder)" > "$$folder.log" 2>&1 || (cat "$$folder.log"; exit 1)

api: $(VENV)/.test  ## record the public names that plugins rely on; refuses what would break plugins
	$(BIN)/python tests/downstream/importable/recorded_api.py

bench: $(VENV)/.demo  ## measure against references in the same run, as ratios
	$(BIN)/python benchmarks/run.py

format: $(VENV)/.check  ## rewrite the code as the formatter wants it
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

test-lowest:  ## all tests with the oldest versions that the pyproject files allow
	$(PYTHON) tests/lowest.py .venv-lowest -n auto --dist worksteal

wheels: $(VENV)/.test  ## build the distributions into dist/, and try each set of them in an environment of its own
	$(BIN)/python tests/integration/importable/distributions.py dist

clean:  ## remove environments, caches and outputs
	rm -rf .venv .venv-lowest examples/*/out dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo $(VENV)/.test $(VENV)/.check: $(VENV)/.%: $(METADATA) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -e . $(PLUGINS) --group $*
	@touch $@
