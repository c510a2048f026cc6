# Everything sets itself up in .venv; PYTHON chooses the interpreter it is made from.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test lint types clean

help:
	@echo "make demo    a first dataset from a 3D scene that is made on the spot"
	@echo "make test    the whole test suite"
	@echo "make lint    ruff and codespell;  make types: pyright"

$(VENV)/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[scenes]'
	@touch $@

$(VENV)/dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/core

demo: $(VENV)/core
	$(VENV)/bin/twoview demo

test: $(VENV)/dev
	$(VENV)/bin/python -m pytest

lint: $(VENV)/dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/codespell

types: $(VENV)/dev
	$(VENV)/bin/pyright

clean:
	rm -rf $(VENV) dist twoview-demo
