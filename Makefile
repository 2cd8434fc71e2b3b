# Callwright. `make up` brings everything up on this machine, `make test` proves it; both install what they need and can be run twice.
# Everything lives in .venv and build/; the local Asterisk is built once, outside (CALLWRIGHT_PBX_ROOT).

SHELL := /bin/bash
.DEFAULT_GOAL := help
unexport CALLWRIGHT_STATE
unexport PYTHONDONTWRITEBYTECODE

# Debian's own Python is built with all its optimisations, others often are not: a sixth of our CPU a call.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11 /usr/bin/python3.12 /usr/bin/python3.13) python3)
VENV := .venv
PY := $(VENV)/bin/python
RATE ?= 5
CALLS ?= 50
FLOW ?= mix

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

up: desk  ## install what is needed and start everything: Asterisk, CRM, mail catcher, application, watchdog
	@$(VENV)/bin/callwright up

down: $(VENV)/.ready  ## stop everything that `make up` started
	@$(VENV)/bin/callwright down

status: $(VENV)/.ready  ## what runs and what does not
	@$(VENV)/bin/callwright status

call: $(VENV)/.ready  ## real SIP calls against demo agents, told as they happen
	@$(PY) -m tests.load.call

load: $(VENV)/.ready  ## SIPp load, bounded: RATE= calls a second, CALLS= in all, FLOW= known unknown premium late hangup mix
	@$(PY) -m tests.load.load --rate $(RATE) --calls $(CALLS) --flow $(FLOW)

bench: $(VENV)/.ready  ## the full call against plain dialplan and FastAGI, side by side
	@$(PY) -m tests.load.bench

test: desk tools  ## all tests, real calls included
	@tests/run

test-docker: tools  ## the container images, and a call through them
	@$(PY) -m pytest -q --timeout 1800 tests/e2e/test_docker.py

check: $(VENV)/.ready  ## style and types
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

faults: desk tools  ## the full fault matrices, resumable; writes build/faults.json
	@CALLWRIGHT_TEST_RACES=100 $(PY) -m pytest -q --timeout 600 tests/e2e/test_link_faults.py tests/e2e/test_people_faults.py tests/e2e/test_media_faults.py tests/e2e/test_overload.py -m 'not faults'
	@CALLWRIGHT_TEST_RACES=100 $(PY) -m pytest -q --timeout 600 -m faults tests/e2e
	@CALLWRIGHT_TEST_KILLS=1000 $(PY) -m pytest -q tests/contract/test_webhooks.py
	@$(PY) -m tests.faults.run

lock:  ## pin the dependencies again
	@test -x $(VENV)/bin/uv || $(PY) -m pip install -qq --disable-pip-version-check uv
	@$(VENV)/bin/uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --group dev pyproject.toml -o requirements.lock
	@$(VENV)/bin/uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-header pyproject.toml -o docker/requirements.lock

desk: app/desk/dist/index.html  ## build the agent's page

tools: $(VENV)/.ready
	@tests/tools

$(VENV)/.ready: requirements.lock pyproject.toml
	@echo "installing the Python packages into $(VENV)"
	@$(PYTHON) -m venv --help >/dev/null 2>&1 && $(PYTHON) -c 'import ensurepip' 2>/dev/null || (apt-get -q update && apt-get -q -y install --no-install-recommends python3-venv)
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

app/desk/dist/index.html: $(VENV)/.ready $(shell find app/desk/src app/desk/*.json app/desk/*.html app/desk/*.ts -newer app/desk/dist/index.html 2>/dev/null)
	@tests/build-desk

.PHONY: help up down status call load bench test test-docker check faults lock desk tools
