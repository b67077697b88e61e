# Ekiden's two commands are `make demo` and `make test`; everything else is listed by `make help`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
VENV := .venv
TOOLS := .tools
BIN := $(VENV)/bin
PIP_QUIET := --quiet --disable-pip-version-check --no-input

# Their pins of boto3 and botocore conflict, so each of these two tools lives in an environment of its own.
MINISTACK := ministack==1.5.33 boto3==1.43.106 aws-sam-translator==1.115.0
SAM := aws-sam-cli==1.170.0

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':[^#]*## ?' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(VENV)/.installed $(TOOLS)/ministack/.installed $(TOOLS)/sam/.installed ## Make the environments and install everything

$(VENV)/.installed: pyproject.toml
	@echo "Installing Ekiden into $(VENV) (once; PyTorch makes it take a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install $(PIP_QUIET) --editable '.[dev]'
	@touch $@

$(TOOLS)/ministack/.installed: Makefile
	@echo "Installing the embedded cloud into $(TOOLS)/ministack (once)"
	@$(PYTHON) -m venv $(TOOLS)/ministack
	@$(TOOLS)/ministack/bin/pip install $(PIP_QUIET) $(MINISTACK)
	@touch $@

$(TOOLS)/sam/.installed: Makefile
	@echo "Installing the SAM CLI into $(TOOLS)/sam (once)"
	@$(PYTHON) -m venv $(TOOLS)/sam
	@$(TOOLS)/sam/bin/pip install $(PIP_QUIET) $(SAM)
	@touch $@

.PHONY: demo
demo: setup ## Run the main job on the embedded cloud and show the result (DATA=DIR: a MovieLens folder)
	@$(BIN)/ekiden demo $(if $(DATA),--data "$(DATA)")

.PHONY: test
test: setup ## Run all tests, the local end-to-end test included (ARGS=… goes to pytest)
	@$(BIN)/python -m pytest -rs $(ARGS)

.PHONY: test-gpu
test-gpu: setup ## Train every torch model on a CUDA GPU beside the CPU (skipped where there is none)
	@$(BIN)/python -m pytest -rs tests/gpu $(ARGS)

.PHONY: lint
lint: setup ## Format check, lint, types, layers, template
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy layers/shared/ekiden engine/ekiden_engine local/ekiden_local cli/ekiden_cli tools benchmarks tests
	@for handler in functions/*/handler.py; do $(BIN)/mypy --no-error-summary "$$handler"; done
	@$(BIN)/lint-imports
	@$(BIN)/python -m benchmarks.table --check
	@$(BIN)/python tools/export_schemas.py --check
	@$(BIN)/cfn-lint template.yaml --append-rules cfn_lint_serverless.rules
	@$(TOOLS)/sam/bin/sam validate --lint --template template.yaml --region us-east-1

.PHONY: format
format: setup ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet .

.PHONY: bench
bench: setup ## Run a benchmark (NAME=main-job | quality | engine | neighbours | transitions | scoring) and write benchmarks/results/NAME.json
	@test -n "$(NAME)" || { echo "which one? make bench NAME=main-job | quality | engine | neighbours | transitions | scoring" >&2; exit 2; }
	@$(BIN)/python -m benchmarks.$(subst -,_,$(NAME)) $(ARGS)

.PHONY: simulate
simulate: setup ## Simulate runs of the shipped handlers (RUNS=…, JSON=1 writes the figures; SEED=harsh/7 tells one)
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed "$(SEED)" $(if $(MUTANT),--mutant "$(MUTANT)") \
		$(if $(CALLS),--calls),--runs $(or $(RUNS),10000) $(if $(JSON),--json))

.PHONY: teeth
teeth: setup ## Show that the simulation fails without any one of the remedies, and how often (RUNS=… per remedy)
	@$(BIN)/python -m tests.simulation --teeth --json --runs $(or $(RUNS),2000)

.PHONY: bench-table
bench-table: setup ## Render the README's table of figures from benchmarks/results/*.json
	@$(BIN)/python -m benchmarks.table $(ARGS)

.PHONY: chaos
chaos: setup ## Kill real workers 1,000 times during runs (KILLS=… SEED=…; takes half an hour)
	@$(BIN)/python -m tests.chaos --kills $(or $(KILLS),1000) --seed $(or $(SEED),1)

.PHONY: up
up: setup ## Start the embedded cloud and deploy the template to it
	@$(BIN)/ekiden up

.PHONY: down
down: setup ## Stop the embedded cloud
	@$(BIN)/ekiden down

.PHONY: invoke
invoke: setup ## Call a handler in-process: make invoke FN=RecordJobState EVENT=events/lambda/…
	@test -n "$(FN)" && test -n "$(EVENT)" || { echo "usage: make invoke FN=RecordJobState EVENT=events/lambda/record_job_state/….json" >&2; exit 2; }
	@$(BIN)/python tools/invoke.py "$(FN)" "$(EVENT)"

.PHONY: schemas
schemas: setup ## Generate docs/openapi.json and docs/schemas/ from the contracts
	@$(BIN)/python tools/export_schemas.py

.PHONY: clean
clean: ## Remove what builds and tests leave behind (the environments stay)
	@rm -rf .aws-sam build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
