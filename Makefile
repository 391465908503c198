# `make demo`, `make web`, `make test` and `make check` each do all the set-up they need in .venv, on a machine that has nothing
# but Python >= 3.10: the exact versions in requirements/lock.txt. Override on the command line: make test
# PYTHON=python3.12 TESTS=tests/editing

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
LOCK := requirements/lock.txt
TORCH ?= $(shell grep -o '^torch==[^ ;]*' $(LOCK))
CPU_TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TESTS ?= tests
PYTEST_FLAGS ?= -q -n 2

BIN := .venv/bin
READY := .venv/.ready
UV := build/uv/bin
NEWEST := build/newest/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
ROOMS := $(filter-out semantic_edit benchmarks training,$(patsubst %/__init__.py,%,$(wildcard */__init__.py)))

.DEFAULT_GOAL := help
.PHONY: help setup demo web test slow check format lint types docs lock test-newest pictures clean

help:
	@echo "make demo         render a still life, edit it, write demo/strip.png"
	@echo "make web          the page: edit, learn and restyle in the browser"
	@echo "make test         the fast tests"
	@echo "make slow         the slow tests: packaging into fresh environments, full-size runs"
	@echo "make check        formatting, lint, types, documentation and the fast tests: what a change must pass"
	@echo "make format       rewrite the sources in the project's format"
	@echo "make docs         the documentation with the API reference, as build/site/index.html"
	@echo "make lock         renew the exact versions that all of these install"
	@echo "make test-newest  the fast tests with the newest of everything, in an environment of their own; a report"

setup: $(READY)

# Re-run when the dependencies may have changed; an interrupted set-up leaves no stamp and is taken up again.
$(READY): setup.py pyproject.toml $(LOCK)
	@test -n "$(PYTHON)" || { echo "Python >= 3.10 is needed and none was found; name one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit("Python >= 3.10 is needed, $(PYTHON) is " + v if sys.version_info < (3, 10) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "could not create .venv; on Debian and Ubuntu: apt install python3-venv" >&2; rm -rf .venv; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit("`.venv` holds a Python below 3.10: remove it and run make again" if sys.version_info < (3, 10) else 0)'
	@$(BIN)/python -c 'import torch, sys; sys.exit("torch==" + torch.__version__.split("+")[0] != "$(TORCH)")' 2>/dev/null \
		|| { $(call install_torch,$(BIN)/python,--constraint $(LOCK) '$(TORCH)'); }
	$(BIN)/python $(PIP_INSTALL) --requirement $(LOCK)
	$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# $(call install_torch,python,what). On Linux, PyPI's torch carries gigabytes of CUDA. Without an NVIDIA driver, add the
# index of CPU builds if it answers: asking it first costs seconds, whereas pip would retry an index that is out of reach
# for every dependency. What the lock asks for is then there, and no other build of it is fetched.
define install_torch
extra=""; \
if ! command -v nvidia-smi >/dev/null 2>&1; then \
	if $(1) -c 'import urllib.request as u; u.urlopen("$(CPU_TORCH_INDEX)/torch/", timeout=10)' 2>/dev/null; \
	then extra="--extra-index-url $(CPU_TORCH_INDEX)"; \
	else echo "$(CPU_TORCH_INDEX) does not answer: taking torch from pip's own index"; fi; \
fi; \
set -x; $(1) -m pip install --disable-pip-version-check --progress-bar off $$extra $(2)
endef

demo: $(READY)
	@mkdir -p demo
	$(BIN)/semantic-edit scene --seed 7 --objects 1 --output demo/before.png
	$(BIN)/semantic-edit edit demo/before.png --source "a pink apple on grass" --prompt "a green pear on grass" \
		--output demo/after.png --strip demo/strip.png
	@echo "Before, where the two descriptions disagree, the mask, and after: $(CURDIR)/demo/strip.png"

web: $(READY)
	$(BIN)/semantic-edit web --open

# Two workers of one thread each are faster than one of all threads: the tests' models are tiny.
test slow test-newest: export OMP_NUM_THREADS ?= 1
test slow test-newest: export TOKENIZERS_PARALLELISM ?= false

test: $(READY)
	$(BIN)/python -m pytest $(PYTEST_FLAGS) $(TESTS)

slow: $(READY)
	$(BIN)/python -m pytest -q -m slow $(TESTS)

# `make test check` in one call runs the tests once.
check: lint types docs test

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
	@ln -s $(CURDIR)/benchmarks $(CURDIR)/training build/types/
	cd build/types && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p semantic_edit -p benchmarks -p training

# griffe, which reads the docstrings, follows no links: it sees the installed shape as a copy.
docs: $(READY)
	@rm -rf build/docs && mkdir -p build/docs/semantic_edit
	@cp -R semantic_edit/* $(ROOMS) build/docs/semantic_edit/
	$(BIN)/python -m mkdocs build --quiet

# Both Linux and macOS, every Python from 3.10. Only torch stays at its version, until another is named:
# make lock TORCH=torch==2.14.0
lock:
	@test -x $(UV)/uv || { $(PYTHON) -m venv build/uv && $(UV)/python $(PIP_INSTALL) uv; }
	echo '$(TORCH)' | $(UV)/uv pip compile --quiet --universal --python-version 3.10 --upgrade --extra dev --extra web \
		--excludes requirements/cuda.txt --custom-compile-command 'make lock' --output-file $(LOCK) setup.py -

# Exit status 0 whether the tests pass or fail: it tells what a release elsewhere broke, and gates nothing. Any other
# means that no report could be made: the newest releases do not install together, or pytest did not run to its end.
test-newest:
	rm -rf build/newest && $(PYTHON) -m venv build/newest
	@$(call install_torch,$(NEWEST)/python,torch)
	$(NEWEST)/python $(PIP_INSTALL) --editable '.[dev,web]'
	@$(NEWEST)/python -m pytest $(PYTEST_FLAGS) $(TESTS); status=$$?; test $$status -le 1 || exit $$status; \
		echo "What is not in $(LOCK):"; \
		$(NEWEST)/python -m pip freeze --exclude-editable | tr A-Z_ a-z- | grep -vxF "$$(sed 's/ ;.*//' $(LOCK))"; \
		test $$status -eq 0 && echo "The fast tests pass with these." || echo "The fast tests FAIL with these."

pictures: $(READY)
	$(BIN)/python docs/make_pictures.py
	$(BIN)/python docs/make_screenshots.py

clean:
	rm -rf build demo .mypy_cache .pytest_cache .ruff_cache *.egg-info
