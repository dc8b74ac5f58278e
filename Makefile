# RED-VILLM: turn an Image LLM into a Video LLM. `make help` is the table of contents.
# Every target sets the project up by itself: a virtual environment in .venv with pinned packages.

BASE ?= mini
DATASET ?= demo
EXPERIMENT ?= red-villm
CONFIG ?= pipelines/recipes/experiments/$(EXPERIMENT).yaml
FEATURES ?= data/features
RUNS ?= runs
SEEDS ?= 1
SEED ?= 0
EXECUTOR ?= auto
STUDY ?= paper

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin/python -m pipelines
STAMP := $(VENV)/.installed
BROWSER := $(VENV)/.browser

# libraries that would otherwise talk to their makers
export RAY_USAGE_STATS_ENABLED := 0
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

# what is set on the command line becomes an option of the stage, what is not stays its default;
# base and dataset are the recipe's unless they are set on the command line or in the environment
flag = $(if $(strip $($(1))),--$(2) $($(1)))
given = $(if $(filter-out file,$(origin $(1))),$(call flag,$(1),$(2)))
WHERE = --config $(CONFIG) $(call given,BASE,base) $(call given,DATASET,dataset) \
	$(call flag,VIDEOS,videos) $(call flag,ANNOTATIONS,annotations) \
	--features $(FEATURES) --runs $(RUNS)
MANY = $(if $(strip $(CHECKPOINTS)),--checkpoints '$(CHECKPOINTS)') $(call flag,BASELINE,baseline)
JUDGING = $(if $(strip $(JUDGE)),--judge '$(JUDGE)') --judge_cache $(RUNS)/judge-cache
one_of = $(if $(strip $(CHECKPOINT)),--checkpoint '$(CHECKPOINT)',$(1))

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak check data extract train eval reeval report experiments plan export inspect rehearse gpu-check bench bench-extract bench-train bench-decode bench-plan bench-report mini clean

help: ## this list
	@echo "RED-VILLM: an Image LLM becomes a Video LLM by training two projectors on cached features."
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'
	@echo "Variables (now; BASE and DATASET are the recipe's where it names them): BASE=$(BASE) DATASET=$(DATASET) EXPERIMENT=$(EXPERIMENT) SEEDS=$(SEEDS) SEED=$(SEED)"
	@echo "  VIDEOS=dir ANNOTATIONS=file for your own data; FEATURES=$(FEATURES) RUNS=$(RUNS) CHECKPOINT= SPLIT="
	@echo "  JUDGE=offline BENCHMARKS='vcgbench msvd-qa:val' CHECKPOINTS='runs/*/*/seed-*' BASELINE=untuned"
	@echo "  EXECUTOR=$(EXECUTOR) (auto, serial, ray) WORKERS= RAY_ADDRESS= PART=i/n SPECS='50 100' DRY_RUN=1"
	@echo "  CONFIG=file.yaml ARGS='--key value'; FEATURES may be s3://bucket/prefix"

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 with venv found: install one, or make PYTHON=/path/to/python"; exit 2; }
	@echo "setting up $(VENV) with $(PYTHON) (a few minutes, once)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	@touch $(STAMP)

# the browser that page tests open: one that is there, or Debian's, or playwright's own
$(BROWSER): $(STAMP)
	@$(VENV)/bin/python -m benchmarks.chromium >/dev/null 2>&1 || { \
		echo "installing Chromium for the browser tests (once)"; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1 || \
			{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; }; \
		else $(VENV)/bin/playwright install chromium; fi; }
	@$(VENV)/bin/python -m benchmarks.chromium >$@.new && mv $@.new $@

setup: $(STAMP) ## virtual environment with pinned packages (done by every other target)

demo: $(STAMP) ## videos to judged report on the embedded base: 8 minutes, 2 cores, no GPU (SEEDS=3, DEMO_LANG=zh)
	@$(RUN) demo $(call flag,DEMO_LANG,lang) --seeds $(SEEDS) --features $(FEATURES) --runs $(RUNS) --executor $(EXECUTOR) $(ARGS)

data: $(STAMP) ## what is there of DATASET (of all sets without it) and what is not; no downloads
	@$(RUN) data $(call given,DATASET,dataset) $(call flag,VIDEOS,videos) $(call flag,ANNOTATIONS,annotations) $(ARGS)

extract: $(STAMP) ## stage 1: sampled frames through the frozen ViT, pooled, into a checksummed store
	@$(RUN) extract $(WHERE) --executor $(EXECUTOR) $(call flag,WORKERS,workers) $(call flag,PART,part) \
		$(if $(strip $(SPECS)),--specs '$(SPECS)') $(if $(filter-out 0,$(DRY_RUN)),--dry_run) $(ARGS)

train: $(STAMP) ## stage 2: train the projectors on cached features (EXPERIMENT, SEED)
	@$(RUN) train $(WHERE) --seed $(SEED) $(ARGS)

eval: $(STAMP) ## stage 3: answer SPLIT's questions and judge them (CHECKPOINT=run folder or glob)
	@$(RUN) eval $(WHERE) $(call one_of,--seed '$(SEED)') $(call flag,SPLIT,split) $(JUDGING) $(ARGS)

reeval: $(STAMP) ## CHECKPOINTS x BENCHMARKS x JUDGE: only what is missing; a leaderboard (BASELINE)
	@$(RUN) reeval $(WHERE) $(MANY) $(if $(strip $(BENCHMARKS)),--benchmarks '$(BENCHMARKS)') \
		--executor $(EXECUTOR) $(call flag,WORKERS,workers) $(JUDGING) $(ARGS)

report: $(STAMP) ## what was judged of CHECKPOINTS (or all of DATASET's runs): page, JSON, Markdown, CSV
	@$(RUN) report $(WHERE) $(MANY) $(ARGS)

experiments: $(STAMP) ## the paper's tables on BASE, with a verdict on each claim (STUDY, TABLES='3 4', QUICK=1)
	@$(RUN) experiments --study $(STUDY) $(call given,BASE,base) $(call given,DATASET,dataset) \
		$(if $(strip $(BENCHMARKS)),--benchmarks '$(BENCHMARKS)') $(if $(strip $(TABLES)),--tables '$(TABLES)') \
		$(if $(filter-out 0,$(QUICK)),--quick) $(call given,EXPERIMENT,experiment) \
		--features $(FEATURES) --runs $(RUNS) --executor $(EXECUTOR) $(call flag,WORKERS,workers) $(JUDGING) $(ARGS)

export: $(STAMP) ## a trained run as a folder to share: CHECKPOINT=run folder ARGS=folder to make
	@$(RUN) export '$(or $(CHECKPOINT),$(RUNS)/$(DATASET)/$(EXPERIMENT)/seed-$(SEED))' $(ARGS)

plan: $(STAMP) ## what BASE and DATASET will take: hours, disk, network, judge tokens, money (HARDWARE)
	@$(RUN) plan $(WHERE) --experiment $(CONFIG) $(call flag,HARDWARE,hardware) \
		$(if $(strip $(BENCHMARKS)),--benchmarks '$(BENCHMARKS)') $(if $(strip $(JUDGE)),--judge '$(JUDGE)') $(ARGS)

inspect: $(STAMP) ## what BASE is (recipe, folder or hub id), and whether its files are whole
	@$(RUN) inspect $(WHERE) $(ARGS)

mini: $(STAMP) ## train the embedded base from scratch into assets/mini (25 minutes)
	@$(RUN) mini $(ARGS)

rehearse: $(STAMP) ## BASE=llava-1.5-7b or qwen-vl at full size, made-up weights (14 or 19 GB of disk)
	@$(RUN) rehearse --base $(BASE) $(ARGS)

gpu-check: $(STAMP) ## BASE on an accelerator: parity with the CPU, speed against the floors
	@$(RUN) gpu-check --base $(BASE) $(ARGS)

bench-extract: $(STAMP) ## extraction and stores against their floors and peers (25 minutes; QUICK=1)
	@$(VENV)/bin/python -m benchmarks.extract $(if $(QUICK),--quick) $(ARGS)

bench-train: $(STAMP) ## a training step against its floor and transformers' Trainer (25 minutes; QUICK=1)
	@$(VENV)/bin/python -m benchmarks.train $(if $(QUICK),--quick) $(ARGS)

bench-decode: $(STAMP) ## answering a split together against one question at a time (10 minutes; QUICK=1)
	@$(VENV)/bin/python -m benchmarks.decode $(if $(QUICK),--quick) $(ARGS)

bench-plan: $(STAMP) ## what a plan foretells of a miniature run, against the run (10 minutes; QUICK=1)
	@$(VENV)/bin/python -m benchmarks.plan $(if $(QUICK),--quick) $(ARGS)

bench: bench-extract bench-train bench-decode bench-plan bench-report ## all of these, one after the other

bench-report: $(BROWSER) ## a report of 73,000 judged rows: seconds to build and to open (QUICK=1)
	@$(VENV)/bin/python -m benchmarks.report $(if $(QUICK),--quick) $(ARGS)

check: $(STAMP) ## ruff, mypy strict, import-linter
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy && $(VENV)/bin/lint-imports

# a file of tests is one worker's, whose shared set-up is then made once
test: $(BROWSER) ## the test suite
	@$(VENV)/bin/python -m pytest -m "not soak" -n auto --maxprocesses 4 --dist loadfile $(ARGS)

soak: $(BROWSER) ## the long tests (kills at many moments)
	@$(VENV)/bin/python -m pytest -m soak --timeout 3600 $(ARGS)

clean: ## remove what can be made again (runs, demo data, features; keeps .venv)
	rm -rf runs data/demo data/features .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
