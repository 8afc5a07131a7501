# Every target sets up what it needs by itself: .venv from requirements.lock, once.
#   make report            the quick tier, minutes on two cores
#   make report CORES=1    with fewer cores
#   make test PYTEST="-k codec -x"
#   make test PYTEST="-n 0 -k codec --pdb"   in one process

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?=
CORES ?= all
PYTEST ?=
TIER ?= quick
PROFILE ?=
CANCEL ?=
STOP ?=
ARGS ?=

export PYTHON
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MPLBACKEND := Agg

# Leftovers of a killed run are no obstacle: its lock goes if it is stale, its half-made files
# are made again. $(1) is the tier.
define run
	@.venv/bin/python tools/unlock.py
	@snakemake --cores $(CORES) --rerun-incomplete --configfile config/$(1).yaml
	@echo
	@echo "The report of the tier $(1): $(CURDIR)/report/index.html"
endef

define of-tier
	@test -f config/$(TIER).yaml || { echo "TIER=$(TIER): found no config/$(TIER).yaml, expected one" \
	    "of: $(patsubst config/%.yaml,%,$(wildcard config/*.yaml))" >&2; exit 2; }
endef

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

.PHONY: report
report: setup ## Run the quick tier (embedded data, no network) and make report/index.html
	$(call run,quick)

.PHONY: small
small: setup ## Run the small tier (real tasks and people, days on two cores) and make report/index.html
	$(call run,small)

# It works beside a run that lasts, whose lock it leaves alone.
.PHONY: partial
partial: setup ## Report what there is of a tier (TIER=small), and list what is missing; trains nothing
	$(of-tier)
	@snakemake --nolock --cores $(CORES) --rerun-incomplete --configfile config/$(TIER).yaml \
	    --config partial=true --forcerun summary
	@echo
	@echo "The report of what there is of the tier $(TIER): $(CURDIR)/report/index.html"

.PHONY: verify
verify: setup ## Check the committed records, and all that follows from them, against what is expected
	@xpeft verify config/small.yaml --project .

# Committed records come without the jobs and the data that they were made from, so that a plain run
# would train all of them again.
.PHONY: missing
missing: setup ## Train the jobs of a tier (TIER=small) whose records are not all there, and no others
	$(of-tier)
	@.venv/bin/python tools/unlock.py
	@snakemake --cores $(CORES) --rerun-incomplete $(ARGS) --configfile config/$(TIER).yaml -- missing

# The tier small stands beside the quick one as evidence, so that it is not run: its records are
# taken as they are.
.PHONY: figures
figures: setup ## Draw figures and tables of the committed records again, in a minute; trains nothing
	@.venv/bin/python tools/unlock.py
	@snakemake --cores $(CORES) --rerun-incomplete --configfile config/quick.yaml \
	    --forcerun summary ledger -- figures/small report/tables/small
	@echo "Figures: figures/small; tables: report/tables/small"

# What follows from the committed records, as files of the repository.
.PHONY: papers
papers: setup ## Write CLAIMS.md, ARTIFACT.md and LICENSES.md from the committed records
	@xpeft summary --records results/small/records --examples results/small/examples.json \
	    --out results/small/summary.json
	@xpeft ledger --encoder bert-base-uncased --adapters 100 --out results/small/ledger.json
	@xpeft claims --summary results/small/summary.json --ledger results/small/ledger.json \
	    --out results/small/claims.json --markdown CLAIMS.md
	@xpeft papers --summary results/small/summary.json --claims results/small/claims.json \
	    $(foreach tier,quick small paper people,--config config/$(tier).yaml) --out .

# A profile may name a config too: the tier on the command line goes before it.
.PHONY: resume
resume: setup ## Go on after a kill: make resume, make resume TIER=paper PROFILE=slurm; STOP=1 kills a run that hangs
	$(of-tier)
	@$(if $(STOP),.venv/bin/python tools/unlock.py --stop)
	@$(if $(PROFILE),.venv/bin/python tools/orphans.py $(if $(CANCEL),--cancel))
	@.venv/bin/python tools/unlock.py --wait
	@snakemake --cores $(CORES) --rerun-incomplete $(if $(PROFILE),--profile $(PROFILE)) \
	    $(ARGS) --configfile config/$(TIER).yaml
	@echo "The tier $(TIER) is done"

.PHONY: test
test: lint typecheck ## Check style and types, lint the workflow, run all tests
	@OMP_NUM_THREADS=1 pytest -n logical --maxprocesses 8 --dist loadfile $(PYTEST)

.PHONY: test-slurm
test-slurm: setup ## Run all faults on a real Slurm (needs its packages, and root), and write their table
	@OMP_NUM_THREADS=1 pytest -n 0 -m "slurm_long or not slurm_long" tests/slurm $(PYTEST)

.PHONY: lint
lint: setup ## Check the style of code and workflow
	@ruff check .
	@ruff format --check .
	@snakefmt --check Snakefile workflow
	@snakemake --lint

.PHONY: typecheck
typecheck: setup ## Check the types
	@mypy

.PHONY: format
format: setup ## Bring code and workflow into style
	@ruff check --fix .
	@ruff format .
	@snakefmt Snakefile workflow

.PHONY: bench
bench: setup ## Hold time and memory against their bounds, on an idle machine; fails where one is missed
	@failed=0; for name in step profiles store serving; do \
	    echo "$$name:"; python benchmarks/$$name.py || failed=1; \
	done; exit $$failed

.PHONY: oracle
oracle: ## Make the parity fixtures again, with AdapterHub's own library in .venv-oracle
	@tools/setup.sh .venv-oracle oracle/requirements.txt
	@.venv-oracle/bin/python oracle/make_fixtures.py --out tests/fixtures/adapterhub

.PHONY: lock
lock: setup ## Write the pins of .venv into the locks and environment.yml
	@python tools/lock.py

.PHONY: setup
setup: ## Make .venv from requirements.lock, unless it is up to date
	@tools/setup.sh

.PHONY: clean
clean: ## Remove what the quick tier, the report and the tools left; keep .venv and results/small
	@rm -rf results/quick figures report build dist
	@rm -rf .pytest_cache .mypy_cache .ruff_cache
	@find xpeft tests tools -name __pycache__ -prune -exec rm -rf {} +
