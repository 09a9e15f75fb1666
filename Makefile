# weir: every command a person or CI needs. `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SEEDS ?= 10
PARALLEL ?= --numprocesses 2 --dist loadgroup
FAULTS ?= 1000
SEED ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast lint format chaos bench performance peers docs figures kafka clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## install weir into .venv (no torch)

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed docs/examples/weir-mahalanobis/pyproject.toml
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	$(PIP) install --no-deps --editable docs/examples/weir-mahalanobis
	touch $@

$(VENV)/.installed-neural: $(VENV)/.installed-dev
	$(PIP) install --constraint constraints.txt --editable '.[dev,neural,pcap]'
	touch $@

demo: install ## train on synthetic traffic, run the stream, print explained alerts, sum up
	$(BIN)/weir demo

test: $(VENV)/.installed-neural ## install everything and run all tests, on both brokers
	$(BIN)/python -m pytest $(PARALLEL)

test-fast: $(VENV)/.installed-dev ## the tests without brokers and long runs
	$(BIN)/python -m pytest $(PARALLEL) -m "not broker and not kafka and not slow"

lint: $(VENV)/.installed-neural ## ruff, mypy and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

chaos: $(VENV)/.installed-dev ## kills, outages and full disks on real streams (FAULTS, SEED), into docs/reliability.md
	$(BIN)/python tests/chaos/run.py --faults $(FAULTS) --seed $(SEED) --report docs/reliability.md

bench: $(VENV)/.installed-dev $(VENV)-peers/.installed ## short benchmarks, environment and ratios printed
	for bench in tests/bench/bench_*.py; do $(BIN)/python $$bench --short || exit 1; done

performance: $(VENV)/.installed-dev $(VENV)-peers/.installed ## long benchmarks, into docs/performance.md
	for bench in tests/bench/bench_*.py; do $(BIN)/python $$bench --results docs/performance || exit 1; done
	$(BIN)/python tests/bench/bench_cost.py --huge 100000000 --results docs/performance
	$(BIN)/python tests/bench/report.py docs/performance docs/performance.md

peers: $(VENV)-peers/.installed ## what weir is measured beside, in an environment of its own

$(VENV)-peers/.installed: tests/bench/peers/requirements.txt
	test -x $(VENV)-peers/bin/python || $(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip --disable-pip-version-check --quiet install --requirement $<
	touch $@

figures: $(VENV)/.installed-dev ## detection quality on the public datasets (WEIR_DATA), into docs/figures.md
	$(BIN)/weir figures --seeds $(SEEDS) --out docs

docs: $(VENV)/.installed-dev ## write the generated reference pages
	$(BIN)/python docs/generate.py

kafka: install ## run Apache Kafka on a loopback port, in the foreground
	$(BIN)/python -m connectors.broker_kafka --port 9092

clean: ## remove the virtual environment and all caches
	rm -rf $(VENV) $(VENV)-peers build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
