# `make demo` and `make test` each do all set-up by themselves, in .venv, from pinned versions.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test tests check style types chaos bench compiled pair compose-test clean

CHAOS_SECONDS ?= 180
SEED ?=
TESTERS ?= 2

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[torch,dev]'
	touch $@

demo: setup            ## three devices, one verifier, one real Redis; checks the text against the target alone
	$(BIN)/dsdq demo

check: style types

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# mypy takes a minute without its cache, on one core: the tests begin beside it.
test: style            ## everything that must hold; TESTERS=... processes share the tests
	$(MAKE) --no-print-directory --jobs 2 types tests

tests: setup
	$(BIN)/python -m pytest --numprocesses $(TESTERS) --dist worksteal

chaos: setup           ## everything goes wrong, about 3 minutes; SEED=... replays a run
	$(BIN)/python -m dsdq.testing.chaos --seconds $(CHAOS_SECONDS) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m dsdq.testing.chaos --target builtin/target $(if $(SEED),--seed $(SEED))

bench: setup           ## the tables in README.md
	$(BIN)/python bench/single.py
	$(BIN)/python bench/engine.py
	$(BIN)/python bench/offline.py
	$(BIN)/python bench/roundtrip.py
	$(BIN)/python bench/overload.py
	$(BIN)/python bench/wan.py
	$(BIN)/python bench/capacity.py
	$(BIN)/python -m bench.gateway
	$(BIN)/python -m bench.batches
	$(BIN)/python -m bench.uplink
	$(BIN)/python -m bench.sim
	$(BIN)/python -m bench.paper

# What a simulation spends its time in. Left out of the policies' windows are those that mypyc does not take.
COMPILED_SIM := cloud costs device guesses guessing held kernel links messages opening places reads record step verifier
COMPILED_POLICIES := batching fairness paging places reading retry routing steering window/cap window/protocol

compiled: setup        ## the simulator in C (a compiler is needed, 5 minutes): PYTHONPATH=build/compiled .venv/bin/dsdq sim ...
	rm -rf build/compiled
	mkdir -p build/compiled
	cp -R dsdq build/compiled
	cd build/compiled && $(CURDIR)/$(BIN)/mypyc --config-file $(CURDIR)/pyproject.toml \
		$(COMPILED_SIM:%=dsdq/sim/%.py) $(COMPILED_POLICIES:%=dsdq/policies/%.py)
	$(BIN)/python -m pytest --override-ini pythonpath=build/compiled tests/dsdq/sim/test_determinism.py

pair: setup            ## train the built-in pair again, from scratch
	$(BIN)/python -m training.make_pair

compose-test:          ## the service under a real Docker engine; IMAGE=... takes one that is built already
	tests/compose/run.sh

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
