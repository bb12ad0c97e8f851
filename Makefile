# Two commands from a bare clone: `make demo` runs a whole study, `make test` passes the tests. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo prompts chromium test test-slurm lint format docs install bench clean
.DEFAULT_GOAL := demo

demo: install  ## rehearse SODA's study on simulated losses (seconds), then run a whole one on speech tokens (minutes)
	$(BIN)/isoflop rehearse grids/soda-64.yaml --surface soda --fail 0.1
	$(BIN)/isoflop run grids/demo.yaml

test: install lint  ## lint, types, every test
	$(BIN)/pytest -n auto -m "not slurm"

test-slurm: install  ## sweeps on real SLURM clusters, started and stopped on this machine (root, Debian)
	$(BIN)/pytest -n 2 -m slurm

prompts:  ## real speech for the tests: five languages with transcripts, Debian packages (as root)
	apt-get install -qq --no-install-recommends -o Dpkg::Options::=--path-include=/usr/share/doc/asterisk-core-sounds-* \
		$(foreach language,en es fr it ru,asterisk-core-sounds-$(language) asterisk-core-sounds-$(language)-g722)

chromium:  ## the browser in which the tests open reports, Debian's (as root)
	apt-get install -qq --no-install-recommends chromium

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install  ## mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: install  ## the documentation's site, site/index.html; `make test` builds it too, strictly
	$(BIN)/mkdocs build --strict

bench: install  ## ratios against plain loops and peers
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/tokens.py
	$(BIN)/python benchmarks/tokens_reading.py
	$(BIN)/python benchmarks/report.py

install: $(INSTALLED)  ## one .venv with everything; quick when nothing changed

$(INSTALLED): pyproject.toml constraints.txt Makefile
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "isoflop needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt einops
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps encodec==0.1.1
	touch $@

clean:  ## remove the environment and caches; studies stay
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache .hypothesis
