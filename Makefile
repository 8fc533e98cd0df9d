# Hengliu 衡流. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINE ?= local
export HENGLIU_REAL_DATA ?= $(wildcard ../shared/data)
PYTEST_ARGS ?=

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	@tools/system-packages venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/.platform: requirements/platform.lock pyproject.toml | $(BIN)/python
	@echo '安装平台依赖 / installing the platform (about 300 MB the first time)'
	$(BIN)/pip install --progress-bar on --disable-pip-version-check --require-hashes -r requirements/platform.lock
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.platform
	@echo '安装测试依赖 / installing what the tests need'
	$(BIN)/pip install --progress-bar on --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@

.PHONY: install
install: $(VENV)/.platform ## Install the platform into .venv, with the page's libraries
	@$(BIN)/python tools/fetch_assets.py

.PHONY: demo
demo: install ## Start the platform with a simulated coal city (ENGINE=kafka: Kafka + ClickHouse + PostgreSQL)
	@if [ "$(ENGINE)" = kafka ]; then tools/system-packages java postgresql; fi
	@exec $(BIN)/hengliu demo --engine $(ENGINE)

.PHONY: install-tests
install-tests: $(VENV)/.dev install
	@tools/system-packages strace java postgresql chromium

.PHONY: test
test: install-tests lint ## Install what the tests need and run all of them, the fast ones first
	@echo '运行全部测试，由快到慢；两个空闲核心上约二十分钟 / running every test, fast to slow; about twenty minutes on two idle cores'
	$(BIN)/python -m pytest --durations=15 $(PYTEST_ARGS)

.PHONY: quick
quick: $(VENV)/.dev ## Only the tests that start no server and no browser
	$(BIN)/python -m pytest tests/docs tests/streams tests/operators tests/intake -m 'not kafka and not clickhouse and not postgres'

.PHONY: lint
lint: $(VENV)/.dev ## Check style, types and the import rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: kill
kill: install-tests ## Long proof: kill -9 at random moments, fifty times on each deployment (KILLS=50), a hundred workers of one group, ten coordinators
	$(BIN)/python -m tests.kill.platform --engine local --kills $(or $(KILLS),50)
	$(BIN)/python -m tests.kill.platform --engine kafka --kills $(or $(KILLS),50)
	$(BIN)/python -m tests.kill.windows --kills $(or $(WORKER_KILLS),100)
	$(BIN)/python -m tests.kill.coordinator_move --moves $(or $(MOVES),10)

.PHONY: flips
flips: install-tests ## Long proof: 10,000 random bits of a sealed log flipped one at a time, each found
	$(BIN)/python -m tests.ledger.test_verifying --flips $(or $(FLIPS),10000)

.PHONY: month
month: install-tests ## Long proof: a simulated month on each deployment, every figure equal to the city's ledger
	$(BIN)/python -m tests.e2e.month --engine local
	$(BIN)/python -m tests.e2e.month --engine kafka

.PHONY: real
real: install-tests ## Long proof: every file of HENGLIU_REAL_DATA loaded twice, tables equal to a plain recomputation
	$(BIN)/python -m bench.real_data --engine local --data $(HENGLIU_REAL_DATA) --again
	$(BIN)/python -m bench.real_data --engine kafka --data $(HENGLIU_REAL_DATA) --again

.PHONY: soak
soak: install-tests ## Laws and protocols with new random examples, again and again (ROUNDS=20)
	@for round in $$(seq $(or $(ROUNDS),20)); do echo "round $$round"; \
		$(BIN)/python -m pytest -q --hypothesis-seed=$$RANDOM tests/streams tests/operators tests/intake tests/simulator || exit 1; done

.PHONY: bench
bench: install-tests ## Measure every stage beside its own limit; writes docs/benchmarks.md
	$(BIN)/python -m bench --write
	$(BIN)/python -m bench --engine kafka --write
	$(BIN)/python -m bench.latency --seconds 20 --rate 2000 --write

.PHONY: compare
compare: install-tests ## Measure the window job beside other stream processors (PEERS=folder of their programs, WORK=where they were prepared)
	$(BIN)/python -m bench.streams.compare --rounds $(or $(ROUNDS),7) --peers $(or $(PEERS),../shared/peers) --work $(or $(WORK),/tmp/peers) --write docs/benchmarks.md
	$(BIN)/python -m bench.streams.variants --records 5000000 --long 50000000 --write docs/benchmarks.md
	$(BIN)/python -m bench.streams.restore

.PHONY: detection
detection: $(VENV)/.dev ## Measure what detectors and rules find and miss; writes docs/detection.md
	$(BIN)/python -m bench.detection_series --write --data $(HENGLIU_REAL_DATA)
	$(BIN)/python -m bench.detection_city --write

.PHONY: docs
docs: $(VENV)/.dev ## Write the generated pages anew: settings, OpenAPI, AsyncAPI, metrics, problem codes
	$(BIN)/python -m tools.generate_docs

.PHONY: lock
lock: ## Resolve the dependencies anew and write the lock files
	$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet uv
	$(VENV)/lock/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
		--extra platform --extra build --output-file requirements/platform.lock
	$(VENV)/lock/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
		--extra platform --extra build --extra dev --output-file requirements/dev.lock
	$(VENV)/lock/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
		--extra node --output-file requirements/node.lock

.PHONY: clean
clean: ## Remove the virtual environment, caches and the demo's data
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache node_modules api/static/vendor var
