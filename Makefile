# Everything happens in .venv, which is made where it is missing.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo up down test check format chaos bench prefect-range clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

install: $(INSTALLED) ## Install the package with all it needs into .venv

$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,demo]'
	@touch $@

demo: $(INSTALLED) ## Messages become reports: start everything, show it, stop it
	@$(BIN)/python -m deployments.local demo

up: $(INSTALLED) ## Start Prefect, the workers and the consumer, and leave them running
	@$(BIN)/python -m deployments.local up

down: $(INSTALLED) ## Stop what `make up` has started
	@$(BIN)/python -m deployments.local down

test: $(INSTALLED) ## Run all tests, on real servers that they start themselves
	@$(BIN)/python -m tests.servers.install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope

check: $(INSTALLED) ## Format, types, layers and the fast tests; before each commit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/unit --numprocesses 2 --quiet

format: $(INSTALLED) ## Mend the format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

chaos: $(INSTALLED) ## Kill and cut real servers for half an hour, and count
	@$(BIN)/python -m tests.servers.install
	$(BIN)/python -m tests.chaos

bench: $(INSTALLED) ## Measure beside the peer or the limit
	@$(BIN)/python -m tests.servers.install
	$(BIN)/python -m tests.benchmarks

prefect-range: $(INSTALLED) ## Test on the oldest and the newest Prefect that is allowed
	@$(BIN)/python -m tests.servers.install
	$(BIN)/python -m tests.prefect_range

clean: ## Remove what the commands above have made
	rm -rf .venv .noa .pytest_cache .ruff_cache .hypothesis *.egg-info
