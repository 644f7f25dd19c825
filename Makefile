# make help lists the targets.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ADVFOOL_PHOTOS ?=
export ADVFOOL_PHOTOS

TABLES := table1 table2 table3 table5 fig2 fig3 fig11_17 fig4a fig4b fig4c fig5b fig7_10
scale ?= digits
args ?=
runs ?= runs
BASE ?=

.PHONY: help setup demo $(TABLES) table1-second experiments record report leaderboard test test-all check lint types contract format docs bench golden clean

help:  ## This list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 15
	@echo; echo 'Tables and figures of the paper [scale=digits|imagenet] [args="KEY=VALUE ..."]:'; echo '  $(TABLES)'

setup: $(VENV)/installed  ## A virtual environment with everything to run, test and develop

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

demo: setup  ## The main job: trains a small classifier, fools its Grad-CAM, ends with a picture
	$(BIN)/python -m advfool.train hydra.run.dir=runs/demo
	@echo "The picture: runs/demo/heatmaps.png"

$(TABLES): setup
	$(BIN)/python -m advfool.train experiment=$@ scale=$(scale) $(args)

table1-second: setup  ## A row of Table 1 with a second ResNet, pretrained with another seed (before table1)
	$(BIN)/python -m advfool.train experiment=table1 hydra.sweeper.params.model=resnet_tiny_2 \
	  hydra.sweeper.params.fooling=location $(args)

experiments: table1-second $(TABLES)  ## All of them, one after the other; what is finished is not done again

record: setup  ## Takes what the experiments left in runs/ over into experiments/ and the README
	for name in $(TABLES); do \
	  made=$$(ls -d runs/$(scale)*/paper/$$name 2>/dev/null | head -1); \
	  if [ -z "$$made" ]; then echo "$$name: not made here, its record stays"; continue; fi; \
	  rm -rf experiments/$$name/$(scale) && cp -r $$made experiments/$$name/$(scale) || exit 1; done
	$(BIN)/python docs/make_results.py

report: setup  ## report.html of all runs in runs=FOLDER
	$(BIN)/python -m advfool.report runs=$(runs)

leaderboard: setup  ## Checks the entries in leaderboard/ and joins them into build/leaderboard
	$(BIN)/python -m advfool.leaderboard check=leaderboard/entries audits=leaderboard/entries output=build/leaderboard

check: lint types contract  ## Style, types, and the walls between the rooms

lint: setup  ## Style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## The type checker, without findings
	$(BIN)/pyright --pythonpath $(BIN)/python

contract: setup  ## The walls between the rooms
	$(BIN)/lint-imports

test: check  ## All checks, then the tests, of two files at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-all: check  ## The same with the slow tests: all architectures, the demo's numbers on all tiny networks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --all

format: setup  ## Formats the code and mends what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## The documentation site, in build/docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "The site: build/docs/index.html"

bench: setup  ## Costs as ratios measured in one run: heatmaps and steps, metrics, evaluation
	$(BIN)/python benchmarks/costs.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/metrics.py
	$(BIN)/python benchmarks/evaluation.py

golden: setup  ## Short trainings here and at BASE=COMMIT: nothing may differ
	$(BIN)/python benchmarks/golden.py $(BASE)

clean:  ## Removes what the other targets made (not the cache in ~/.cache/advfool)
	rm -rf $(VENV) runs build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
