# `make demo`, `make test` and `make check` each do all the set-up they need in .venv, on a machine that has nothing
# but Python >= 3.10. Override on the command line: make test PYTHON=python3.12 TORCH=torch==2.14.0 TESTS=tests/editing

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
TORCH ?= torch==2.13.0
CPU_TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TESTS ?= tests
PYTEST_FLAGS ?= -q -n 2

BIN := .venv/bin
READY := .venv/.ready
ROOMS := $(filter-out semantic_edit benchmarks,$(patsubst %/__init__.py,%,$(wildcard */__init__.py)))

.DEFAULT_GOAL := help
.PHONY: help setup demo test slow check format lint types pictures clean

help:
	@echo "make demo    render a still life, edit it, write demo/strip.png"
	@echo "make test    the fast tests"
	@echo "make slow    the slow tests: packaging into fresh environments, full-size runs"
	@echo "make check   formatting, lint, types and the fast tests: what a change must pass"
	@echo "make format  rewrite the sources in the project's format"

setup: $(READY)

# Re-run when the dependencies may have changed; an interrupted set-up leaves no stamp and is taken up again.
$(READY): setup.py pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python >= 3.10 is needed and none was found; name one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit("Python >= 3.10 is needed, $(PYTHON) is " + v if sys.version_info < (3, 10) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "could not create .venv; on Debian and Ubuntu: apt install python3-venv" >&2; rm -rf .venv; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit("`.venv` holds a Python below 3.10: remove it and run make again" if sys.version_info < (3, 10) else 0)'
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(MAKE) --no-print-directory torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,train]'
	@touch $@

# On Linux, PyPI's torch carries gigabytes of CUDA. Without an NVIDIA driver, add the index of CPU builds if it answers:
# asking it first costs seconds, whereas pip would retry an index that is out of reach for every dependency.
.PHONY: torch
torch:
	@extra=""; \
	if ! command -v nvidia-smi >/dev/null 2>&1; then \
		if $(BIN)/python -c 'import urllib.request as u; u.urlopen("$(CPU_TORCH_INDEX)/torch/", timeout=10)' 2>/dev/null; \
		then extra="--extra-index-url $(CPU_TORCH_INDEX)"; \
		else echo "$(CPU_TORCH_INDEX) does not answer: taking $(TORCH) from pip's own index"; fi; \
	fi; \
	set -x; $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off $$extra '$(TORCH)'

demo: $(READY)
	@mkdir -p demo
	$(BIN)/semantic-edit scene --seed 7 --objects 1 --output demo/before.png
	$(BIN)/semantic-edit edit demo/before.png --source "a pink apple on grass" --prompt "a green pear on grass" \
		--output demo/after.png --strip demo/strip.png
	@echo "Before, where the two descriptions disagree, the mask, and after: $(CURDIR)/demo/strip.png"

# Two workers of one thread each are faster than one of all threads: the tests' models are tiny.
test slow: export OMP_NUM_THREADS ?= 1
test slow: export TOKENIZERS_PARALLELISM ?= false
test slow: export TRANSFORMERS_VERBOSITY ?= error

test: $(READY)
	$(BIN)/python -m pytest $(PYTEST_FLAGS) $(TESTS)

slow: $(READY)
	$(BIN)/python -m pytest -q -m slow $(TESTS)

# `make test check` in one call runs the tests once.
check: lint types test

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The rooms lie beside semantic_edit/ here and inside it once installed: mypy sees the installed shape through links.
types: $(READY)
	@rm -rf build/types && mkdir -p build/types/semantic_edit
	@ln -s $(CURDIR)/semantic_edit/* $(addprefix $(CURDIR)/,$(ROOMS)) build/types/semantic_edit/
	@ln -s $(CURDIR)/benchmarks build/types/
	cd build/types && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p semantic_edit -p benchmarks

pictures: $(READY)
	$(BIN)/python docs/make_pictures.py

clean:
	rm -rf build demo .mypy_cache .pytest_cache .ruff_cache *.egg-info
