# Everything a user does. Each command sets up what it needs on first use; nothing is done twice.
# What a user typed is taken by $(value ...) and never expanded, since make would run a $(shell ...) in it.
override PYTHON := $(or $(value PYTHON),python3)
override VENV := $(or $(value VENV),.venv)
override EXTRAS := $(value EXTRAS)
override BIN := $(VENV)/bin
override comma := ,
override unknown_extras := $(filter-out aws cluster cuda cuda12 cuda13 gcp tpu,$(subst $(comma), ,$(EXTRAS)))
ifneq ($(unknown_extras),)
  $(error EXTRAS has no $(firstword $(unknown_extras)): choose from aws, cluster, cuda, cuda12, cuda13, gcp and tpu, with commas between)
endif
override INSTALLED := $(VENV)/installed$(if $(EXTRAS),-$(EXTRAS))

# What talks to a cluster needs more of Ray. status does where it is asked of one: make status cluster=NAME.
override CLUSTER := $(VENV)/installed-cluster
# A Slurm cluster needs no more than any environment has, whatever its EXTRAS: its login node may have no internet.
override ENVIRONMENTS := $(filter-out %-bench %-cluster %-test,$(wildcard $(VENV)/installed-*))
override JOBS := $(if $(filter slurm %.sh,$(value cluster)),$(firstword $(ENVIRONMENTS) $(INSTALLED)),$(CLUSTER))

# The user's key=value words in make's own escapes, which render/__main__.py undoes: no shell splits or expands them.
export RENDER_OVERRIDES := $(MAKEOVERRIDES)
# make would also export each key as a variable, with its value expanded: image=$(shell ...) would run.
$(foreach command-line-variable,$(.VARIABLES),$(if $(filter command,$(origin $(command-line-variable))),\
  $(eval unexport $(command-line-variable))))

# Settings of pip that would install elsewhere than into .venv, or less than is needed; pip.conf below has the others.
export PIP_USER := 0
export PIP_REQUIRE_HASHES := 0
export PIP_NO_DEPS := 0
export PIP_DRY_RUN := 0
unexport PIP_TARGET PIP_PREFIX PIP_ROOT

.DEFAULT_GOAL := help
.PHONY: help setup render film sweep sheet probe export touch plan weights models objectives looks classes atlas settings preflight proof view \
  status fetch \
  cluster-up cluster-status cluster-down submit attach stop test lint bench wheel clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  make render conf=poster image=me.jpg octaves.steps=20: any key of conf/job/default.yaml can be set so"

render: $(INSTALLED) ## dream a picture: make render look=auto image=me.jpg
	@$(BIN)/python -m render render

film: $(INSTALLED) ## make a film: make film conf=zoom image=me.jpg film.seconds=20, conf=footage, or conf=flight run=dreams/NAME
	@$(BIN)/python -m render film

sweep: $(INSTALLED) ## render a grid of pictures, and a page to choose from: make sweep conf=layers
	@$(BIN)/python -m render sweep

sheet: $(INSTALLED) ## draw one labelled contact sheet of a sweep: make sheet run=sweeps/NAME to=sheet.webp width=1600
	@$(BIN)/python -m render sheet

plan: $(INSTALLED) ## say what a render would do and take: make plan conf=poster
	@$(BIN)/python -m render plan

probe: $(INSTALLED) ## dream a class and say what the network sees before and after: make probe class=dumbbell, or method=maco
	@$(BIN)/python -m render probe

export: $(INSTALLED) ## write a run's canvas to other files: make export run=dreams/poster-1a2b3c4d output.format=bigtiff
	@$(BIN)/python -m render export

touch: $(INSTALLED) ## dream a part of a finished picture again: make touch run=dreams/NAME box=10%,20%,30%,30%, or undo=true
	@$(BIN)/python -m render touch

weights: $(INSTALLED) ## fetch a network's weights, or say where they are: make weights model=googlenet
	@$(BIN)/python -m render weights

models: $(INSTALLED) ## list the networks and their layers, with channels, stride and receptive field
	@$(BIN)/python -m render models

objectives: $(INSTALLED) ## list what can be dreamed of, and the presets: make render objective=NAME
	@$(BIN)/python -m render objectives

looks: $(INSTALLED) ## list the looks, and what each needs: make render look=NAME image=me.jpg
	@$(BIN)/python -m render looks

classes: $(INSTALLED) ## list what a network can tell apart: make classes model=googlenet words=dog
	@$(BIN)/python -m render classes

atlas: $(INSTALLED) ## see inside a network: make atlas layer=mixed4 channels=0-63; method=maco, conf=classes; without a layer, every layer
	@$(BIN)/python -m render atlas

settings: $(INSTALLED) ## print the settings inside a finished picture: make settings image=dream.png
	@$(BIN)/python -m render settings

preflight: $(INSTALLED) ## check a picture against what a print shop asks: make preflight file=dream.tif spec=fogra39-tac300
	@$(BIN)/python -m render preflight

proof: $(INSTALLED) ## show what a press makes of a run's picture: make proof run=dreams/NAME profile=press.icc
	@$(BIN)/python -m render proof

view: $(INSTALLED) ## show a run or a film in the browser, also while it is going: make view run=dreams/NAME
	@$(BIN)/python -m render view

status: $(if $(filter command,$(firstword $(origin cluster))),$(JOBS),$(INSTALLED)) ## say how a sweep or a run stands: make status run=DIR, or watch=true until it ends
	@$(BIN)/python -m render status

fetch: $(INSTALLED) ## bring a run from an object store: make fetch run=s3://bucket/dreams/poster pictures=true
	@$(BIN)/python -m render fetch

cluster-up: $(CLUSTER) ## start a cluster: make cluster-up cluster=aws-gpu EXTRAS=aws; cluster/README.md says which there are
	@$(BIN)/python -m render cluster-up

cluster-status: $(JOBS) ## say how a cluster stands, with its nodes and jobs: make cluster-status cluster=aws-gpu
	@$(BIN)/python -m render cluster-status

cluster-down: $(CLUSTER) ## end a cluster: make cluster-down cluster=aws-gpu
	@$(BIN)/python -m render cluster-down

submit: $(JOBS) ## render on a cluster, which goes on without this machine: make submit cluster=aws-gpu conf=poster output.dir=s3://BUCKET/poster
	@$(BIN)/python -m render submit

attach: $(JOBS) ## follow a submitted job again: make attach cluster=aws-gpu job=ID
	@$(BIN)/python -m render attach

stop: $(JOBS) ## have a submitted job save its canvas and end: make stop cluster=aws-gpu job=ID
	@$(BIN)/python -m render stop

setup: $(INSTALLED) ## make the environment (EXTRAS=cuda or EXTRAS=tpu for accelerators)

test: export PYTEST_ADDOPTS := -n 2 --dist loadfile --no-loadscope-reorder $(value PYTEST)
test: $(VENV)/installed-test $(VENV)/compilers/installed ## prove the program right, two files at a time; PYTEST="-m 'not slow'" for the quick part
	@RENDER_OVERRIDES= $(BIN)/python -m pytest

lint: $(VENV)/installed-test ## style, types and layers
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache

bench: $(VENV)/installed-test $(VENV)/installed-bench $(if $(filter aot,$(value names)),$(VENV)/compilers/installed) $(if $(filter true,$(value tensorflow)),$(VENV)/tensorflow/installed) ## measure speed and memory, beside PyTorch: make bench names="kernels linear" quick=true
	@$(BIN)/python -m tests.benchmarks

wheel: $(INSTALLED) ## build the wheel into dist/
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove the environment and what tools left; dreams/ stays
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "render: needs Python 3.11 to 3.13; say which with make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "making $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "render: Python cannot make environments; on Debian install python3-venv" >&2; exit 2; }
	@printf '[%s]\ntarget =\nprefix =\nroot =\n' global install > $(VENV)/pip.conf

$(INSTALLED): pyproject.toml .constraints.txt | $(VENV)/bin/python
	@echo "installing (once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .constraints.txt \
	  -e '.$(if $(EXTRAS),[$(EXTRAS)])'
	@touch $@

$(CLUSTER): $(INSTALLED)
	@echo "installing what clusters need (once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .constraints.txt -e '.[cluster]'
	@touch $@

$(VENV)/installed-bench: $(INSTALLED)
	@echo "installing what benchmarks compare with (once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .constraints.txt -e '.[bench]'
	@touch $@

# Apart: it wants older libraries than the tests.
$(VENV)/tensorflow/installed: | $(VENV)/bin/python
	@echo "installing TensorFlow to compare with (once)" >&2
	@$(BIN)/python -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0 || { rm -rf $(@D); exit 2; }
	@touch $@

$(VENV)/installed-test: $(INSTALLED)
	@echo "installing what the tests need (once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .constraints.txt -e '.[test]'
	@touch $@

# Apart: in the environment, every process that starts JAX would load them. Without them their tests are skipped.
$(VENV)/compilers/installed: tests/accelerators/requirements.txt | $(INSTALLED)
	@echo "installing compilers for accelerators (once, 1.3 GB)" >&2
	@rm -rf $(@D)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(@D) -r $< && touch $@ || \
	  { rm -rf $(@D); echo "render: the tests in tests/accelerators are skipped: their compilers cannot be installed" >&2; }
