# Named commands. They run in the environment that the README makes (.venv with the extra "dev") where there is one, and with the
# programs on the PATH elsewhere: `make check BIN=/opt/env/bin/` names another.
BIN ?= $(if $(wildcard .venv/bin/python),.venv/bin/,)
PYTHON := $(BIN)python
WORKERS ?= 4
SITE ?= build/site
export PYTHONPATH := src
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.PHONY: help check format test-quick test docs generate gallery bench

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

check: ## style, types, arrows between rooms, and whether what is generated is up to date
	$(BIN)ruff check .
	$(BIN)ruff format --check .
	$(BIN)mypy
	$(BIN)lint-imports --no-cache
	$(PYTHON) tools/generate_stubs.py --check
	$(PYTHON) tools/protocol_reference.py --check
	$(PYTHON) tools/generate_client.py --check
	$(PYTHON) tools/settings_table.py --check
	$(PYTHON) docs/site/gallery.py --check

format: ## format the code and mend what ruff can mend
	$(BIN)ruff check --fix .
	$(BIN)ruff format .

test-quick: ## one property of each room: at most two minutes on two cores
	$(BIN)pytest -q @tests/quick.txt

test: ## all tests, in WORKERS processes
	$(BIN)pytest -n $(WORKERS) --dist worksteal

docs: ## the site, without a warning, into SITE
	$(BIN)mkdocs build --quiet --strict --site-dir $(abspath $(SITE))

generate: ## stubs, blocking client, pages of the protocol and the command line, table of settings, gallery pages, picture of the rooms
	$(PYTHON) tools/generate_stubs.py
	$(PYTHON) tools/generate_client.py
	$(PYTHON) tools/protocol_reference.py
	$(PYTHON) tools/settings_table.py
	{ sed '/^<!-- From here on written by/q' docs/cli.md && echo && $(PYTHON) -m relaxon.cli.reference; } > docs/cli.md.new
	mv docs/cli.md.new docs/cli.md
	$(PYTHON) docs/site/gallery.py --pages
	$(PYTHON) docs/site/rooms.py

gallery: ## run the gallery's examples and draw their pictures
	$(PYTHON) docs/site/gallery.py

bench: ## the table of the README, on this machine: about an hour
	$(PYTHON) bench/poisson.py --size 128 --case all --solvers dcdm mg-cg ic-cg pyamg-sa pyamg-rs --limit 20
