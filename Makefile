# make demo, make test: all that a fresh machine with Python 3.11 or later needs.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip --disable-pip-version-check -q
# Models this small run faster with one thread per process, and tests use two processes.
export OMP_NUM_THREADS ?= 1
# Tests start many processes, and each would compile what it imports anew.
unexport PYTHONDONTWRITEBYTECODE
export EFFACE_PYTHONS

# Two workers, a file each at a time, those with most tests of seconds first.
IN_TWO  = -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo examples test test-quick test-times test-all test-faults wheel revisions lint mutate bench docs pictures site reproduce reproduce-small clean

# What should change no result: `make revisions` compares the working tree with its last commit, and prints nothing.
OLD ?= HEAD
NEW ?= .

demo: $(VENV)/.installed
	$(BIN)/efface demo --out demo --overwrite

# Every script of examples/ and the notebook, from top to bottom; `make test` runs the three quick ones.
examples: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/test_examples.py

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(IN_TWO) -m "not slow"

# What needs no second each: for between two changes.
test-quick: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(IN_TWO) -m "not slow and not seconds"

# As `test`, and a test that needs seconds of the processor without saying so (`@pytest.mark.seconds`) fails.
test-times: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(IN_TWO) -m "not slow" --times

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(IN_TWO)

# Wheel and sdist: built, looked into, installed in a clean environment, used there, and with all they need on one other Python
# that is on the machine; `make wheel EFFACE_PYTHONS=3.12,3.13` on those.
wheel: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/test_wheel.py

# Kills, races, full disks and what they leave behind: minutes. Writes the table of docs/reliability.md.
test-faults: $(VENV)/.installed-dev
	EFFACE_FAULTS=docs/reliability.json $(BIN)/python -m pytest tests/test_faults.py
	$(BIN)/python docs/reliability.py

revisions: $(VENV)/.installed-dev
	$(BIN)/python tests/revisions.py $(OLD) $(NEW)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pylint --score=n src/efface

# make mutate PATH=src/efface/auditing/verdict.py: which changes to a file (or several, or a folder) do its tests not
# notice? (tests/mutation.md)
# PATH names the file here; commands get the usual search path instead.
ifeq ($(origin PATH),command line)
MUTATED := $(PATH)
override PATH := /usr/local/bin:/usr/bin:/bin
endif
mutate: $(VENV)/.installed-dev
	$(if $(MUTATED),,$(error Say what to mutate: make mutate PATH=src/efface/auditing/verdict.py))
	$(BIN)/python tests/mutate.py $(MUTATED) $(ARGS)

bench: $(VENV)/.installed-dev
	OMP_NUM_THREADS=2 $(BIN)/python benchmarks/run.py

docs: $(VENV)/.installed-dev $(VENV)/.installed-docs
	$(BIN)/python docs/catalogue.py
	$(BIN)/python docs/notebook.py
	$(BIN)/python docs/architecture.py
	$(BIN)/python docs/research.py
	$(BIN)/python docs/reliability.py
	$(BIN)/python docs/results.py
	$(BIN)/python docs/which_method.py
	$(MAKE) site

# The pictures of the README and the guide: a report's first screen and a comparison's page. Needs Chromium.
pictures: $(VENV)/.installed-dev
	$(BIN)/python docs/pictures.py

# The pages as a site, below site/; a dead link, a missing page or a name that is not there is an error.
site: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Both talks' tables beside the published figures (docs/results.md). DATA holds MNIST/raw and CIFAR10. What is finished is kept:
# started again, both go on where they were stopped.
reproduce: $(VENV)/.installed-dev
	$(if $(DATA),,$(error Say where MNIST/raw and CIFAR10 are: make reproduce DATA=FOLDER))
	$(BIN)/python experiments/reproduce.py --root $(DATA)
	$(BIN)/python docs/results.py

reproduce-small: $(VENV)/.installed-dev
	$(if $(DATA),,$(error Say where MNIST/raw and CIFAR10 are: make reproduce-small DATA=FOLDER))
	$(BIN)/python experiments/reproduce.py --root $(DATA) --small --workers 2
	$(BIN)/python docs/results.py

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Efface needs Python 3.11 to 3.13, this is %s; set PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e .
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[docs]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
