# Everything runs in a virtual environment made here; nothing but python3.11+, pip and make is expected.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLD_CLIENT := .venv-pictograph-1.0
ARGS ?=

# In parts, so that two of them can always go on side by side.
SANDBOX_TESTS := $(wildcard tests/contract/test_sandbox_*.py)
TRAINER_TESTS := $(wildcard tests/contract/test_training_*.py) tests/contract/test_replicate_trainer.py

.PHONY: run test check contract contract-adapters contract-trainers contract-sandbox faults e2e serve crash install install-test format screenshots clean

run: $(VENV)/.installed-sandbox  ## train a model in the local sandbox and show the result
	$(BIN)/python -m flows.train_pipeline $(ARGS)

test: check $(OLD_CLIENT)/.installed  ## every test; the slow ones side by side, for they mostly wait
	$(MAKE) --jobs 2 e2e faults contract-adapters contract-trainers contract-sandbox

contract: contract-adapters contract-trainers contract-sandbox  ## adapters, sandbox and trainers against the vendors' clients

contract-adapters: $(VENV)/.installed-test $(OLD_CLIENT)/.installed
	$(BIN)/python -m pytest $(filter-out $(SANDBOX_TESTS) $(TRAINER_TESTS),$(wildcard tests/contract/test_*.py)) $(ARGS)

contract-trainers: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(TRAINER_TESTS) $(ARGS)

contract-sandbox: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(SANDBOX_TESTS) $(ARGS)

faults: $(VENV)/.installed-test  ## the flow against faults, deaths and cancels
	$(BIN)/python -m pytest tests/fault $(ARGS)

check: $(VENV)/.installed-test  ## format, lint, types, unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/unit -q -n 2 --dist worksteal

e2e: $(VENV)/.installed-test  ## the flow as a user meets it
	$(BIN)/python -m pytest tests/e2e $(ARGS)

serve: $(VENV)/.installed-sandbox  ## offer the deployments from this machine
	$(BIN)/python -m deployments.serve

crash: $(VENV)/.installed-sandbox  ## kill a rehearsal in mid-training and watch it come back
	$(BIN)/python -m docs.crash

screenshots: $(VENV)/.installed-test  ## the README's pictures
	$(BIN)/python -m docs.screenshots

format: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(VENV)/.installed-sandbox

install-test: $(VENV)/.installed-test $(OLD_CLIENT)/.installed

$(VENV)/.installed-sandbox: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[sandbox]"
	touch $@

$(VENV)/.installed-test: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@ $(VENV)/.installed-sandbox

# The vendor's first client speaks the older dialect and cannot share an environment with the current one.
$(OLD_CLIENT)/.installed: Makefile
	test -x $(OLD_CLIENT)/bin/python || $(PYTHON) -m venv $(OLD_CLIENT)
	$(OLD_CLIENT)/bin/python -m pip install --quiet "pictograph==1.0.*"
	touch $@

clean:
	rm -rf $(VENV) $(OLD_CLIENT) build *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
