# Every habit is one word. On a machine with Python 3.10+ and make, `make demo` and `make test`
# do all that is needed: they make .venv, install tunekit into it, and go.

PYTHON ?= python3
BIN := .venv/bin

# Compiled modules are kept, whatever the environment says: the hundreds of processes that tests and trials
# start would each compile torch and Ray anew, 14 s every time.
export PYTHONDONTWRITEBYTECODE :=
# Tests are more processes than there are cores: a thread that waits for another one leaves it the core.
test test-slow: export OMP_WAIT_POLICY := passive

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint format bench clean

help: ## list these words
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-10s %s\n", $$1, $$2}'

install: .venv/installed ## make .venv and install tunekit into it (the other words do this by themselves)

# The stamp is older than pyproject.toml when dependencies may have changed. uv installs in seconds
# what takes pip minutes; where uv cannot be had, pip does it.
.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "tunekit needs Python 3.10 or newer; name one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing tunekit and what it needs into .venv (once; up to 5 GB where CUDA comes along)"
	@if $(BIN)/python -m pip install --quiet "uv<1"; \
		then $(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev]'; \
		else $(BIN)/python -m pip install --quiet -e '.[dev]'; fi
	@touch $@

demo: install ## tune a small YOLO on the embedded handwritten digits (minutes)
	$(BIN)/tunekit tune model=yolo11p.yaml imgsz=96 epochs=24 nbs=16 iterations=16 space=quick name=demo

test: lint ## lint, types and tests: what CI runs
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: install ## the long tests: real searches, killed and resumed
	$(BIN)/python -m pytest -q -m slow

lint: install ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: install ## let ruff put the code in form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: install ## measure; rows go to benchmarks/RESULTS.md
	@for program in benchmarks/[a-z]*.py; do echo "== $$program"; $(BIN)/python $$program || exit 1; done

clean: ## remove .venv, caches and builds; runs/ stays
	rm -rf .venv build dist *.egg-info .ruff_cache .mypy_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
