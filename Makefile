# Targets explain themselves: `make` lists them. Everything is installed into .venv, nothing outside of it.

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
BUILD := build/smoke

.DEFAULT_GOAL := help
.PHONY: help setup demo test check fix docs smoke bench wc clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv with the package and all its extras, from the pinned constraints

# Only when what is to be installed has changed: the stamp is newer than both files otherwise.
$(READY): pyproject.toml constraints.txt
	@sh tools/setup.sh $(VENV)
	@touch $@

demo: $(READY)  ## download 500 photographs from a local web server into demo-out/
	@$(PY) examples/demo.py

test: $(READY)  ## run the whole test suite
	@$(PY) -m pytest -n auto --dist worksteal

check: $(READY)  ## format, lint, types, import graph; writes nothing
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(PY) -m mypy tests/typing/api.py
	@$(PY) -m pytest -q -p no:cacheprovider tests/unit/test_imports.py tests/unit/test_style.py

fix: $(READY)  ## format, and put right what the linter can
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

docs: $(READY)  ## write docs/options.md and docs/outcomes.md anew
	@$(PY) -m scraper.options > docs/options.md.new
	@mv docs/options.md.new docs/options.md
	@$(PY) tools/outcomes_page.py > docs/outcomes.md.new
	@mv docs/outcomes.md.new docs/outcomes.md

smoke: $(READY)  ## build the wheel, install it alone in an empty environment, download three pictures with it
	@sh tools/smoke.sh $(PY) $(BUILD)

bench: $(READY)  ## measure against other downloaders; writes docs/benchmarks.md and its plots
	@$(PY) -m benchmarks --write

wc:  ## lines of code, by package
	@for part in scraper pipelines tests; do \
	  printf '%-10s %6d lines in %3d files\n' $$part \
	    "$$(find $$part -name '*.py' -exec cat {} + | wc -l)" "$$(find $$part -name '*.py' | wc -l)"; \
	done

clean:  ## delete what the targets above made, .venv included
	rm -rf $(VENV) build dist demo-out *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
