# make search   the main job: install, then search spaces/vgg9.yaml into runs/vgg9
# make test     install, then ruff, mypy, the import contract and all tests but the slow ones
# make stress   searches that are killed 200 times at random moments
# make test-postgres   searches that share a PostgreSQL server, which is installed where it is missing (Debian)
# make browser   Chromium, with which tests open report.html, where it is missing (Debian)
# make test-slow   the tests that take longer: README's commands, stress, with 4 kills, PostgreSQL and Chromium among them
# make test-long   the same tests with more tries
# make emulator   QEMU for Arm and gcc for Cortex-M, which are installed where they are missing (Debian)
# make lint     only the checks that run nothing: style, types, imports, lengths
# make setup    only .venv
# make setup-dev   .venv with what tests and checks need
# make bench    .venv with what the benchmarks compare with
# make gpu PYTHON=/path/to/python3   eight minutes of checks on a GPU, with the torch of that Python (docs/gpu.md)

PYTHON ?= python3
BIN := .venv/bin
KILLS := 200
# Bytecode of a module is written at its first import: compiling all of torch takes as long as the rest.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup setup-dev search test test-slow test-long test-postgres postgres emulator browser lint bench stress gpu

setup: .venv/installed
setup-dev: .venv/installed-dev

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[dashboard]'
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable '.[dashboard,events,download,postgresql,dev]'
	touch $@

bench: setup
	$(PIP) --editable '.[dashboard,events,bench]'

# Installs nothing and needs no network: a machine that is lent for minutes has neither.
gpu:
	@$(PYTHON) benchmarks/gpu/check.py

search: setup
	$(BIN)/spquant-search --space spaces/vgg9.yaml

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/measure_house.py --check

# Three processes on two cores, each with one thread: a test that starts a program mostly waits for it.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# Searches that are killed at random moments, about 10 seconds each time.
stress: setup-dev
	SPQUANT_KILLS=$(KILLS) $(BIN)/python -m pytest -m slow tests/end_to_end/test_stress.py

# Two coordinators on one server, which is restarted under them, and one of which is killed.
test-postgres: setup-dev postgres
	SPQUANT_LONG=1 $(BIN)/python -m pytest -m postgres

# Both kinds of long test mostly wait, for moments to kill at and for locks to run out: three at a time.
test-slow: setup-dev postgres browser
	SPQUANT_KILLS=4 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal -m 'slow or postgres'

test-long: setup-dev postgres browser
	SPQUANT_LONG=1 SPQUANT_KILLS=$(KILLS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal -m 'slow or postgres'

postgres:
	command -v pg_ctl >/dev/null || ls /usr/lib/postgresql/*/bin/pg_ctl >/dev/null 2>&1 || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y postgresql >/dev/null; }

emulator:
	command -v qemu-system-arm >/dev/null && command -v arm-none-eabi-gcc >/dev/null && \
		test -f "$$(arm-none-eabi-gcc -print-file-name=libc.a)" || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
			qemu-system-arm gcc-arm-none-eabi libnewlib-arm-none-eabi >/dev/null; }

browser:
	command -v chromium >/dev/null || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; }
