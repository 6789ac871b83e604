# Sets itself up from nothing: its own .venv, exact pins, quick when repeated.
PYTHON ?= python3
DEVICE ?= cpu
CONFIG ?= quickstart
UV_VERSION := 0.13.9
BIN := .venv/bin
# pip is told of wheels on disk by a variable that uv does not read. Where none are given, the
# CPU build of torch comes from PyTorch's own index.
UV := UV_FIND_LINKS="$(PIP_FIND_LINKS)" $(BIN)/uv pip install -q --python $(BIN)/python
TORCH := $(if $(and $(filter cpu,$(DEVICE)),$(if $(PIP_FIND_LINKS),,1)),--torch-backend cpu)
OVERRIDES := $(if $(filter cpu,$(DEVICE)),--override forkdiv/requirements/overrides.txt)

# With it, every process that a study or a test starts would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup setup-dev quickstart test test-unit lint format bench soak soak-cluster docs gpu-check gpu-kit clean

quickstart: setup
	$(BIN)/forkdiv study --config $(CONFIG)

# Two halves, each with its slowest twenty tests: without and with Ray, DeepSpeed, vLLM and MLflow.
# In the second, tests of one folder share a process, and with it one Ray and one engine.
test: lint test-unit
	$(BIN)/python -m pytest -m "stack and not soak" -q -n 2 --dist loadscope --durations 20

test-unit: setup-dev
	$(BIN)/python -m pytest -m "not stack and not soak" -q -n 2 --dist worksteal --durations 20

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

format: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup-dev
	$(BIN)/python -m tests.bench

# Repeated kills, every seed, the report in a real browser.
soak: setup-dev
	tests/soak/install
	$(BIN)/python -m pytest -m soak -rP --ignore tests/cluster

# Three hosts with ssh and a Slurm in namespaces of this machine, MLflow on PostgreSQL, the Serve
# config, KubeRay's definitions. What cannot run here says why; docs/clusters.md says what it needs.
soak-cluster: setup-dev
	tests/cluster/install
	$(BIN)/python -m pytest -rsP tests/cluster

# What only a GPU can show, in at most eight minutes. Without a GPU: a test of the script.
gpu-check: setup-dev
	$(BIN)/python -m tests.gpu.check

# The same for a machine with PyTorch, but without network: pieces of under 60 MB in build/gpu-kit.
gpu-kit: setup-dev
	$(BIN)/python -m tests.gpu.kit

# The site in build/docs. Warnings are errors: a link or a page that leads nowhere among them.
docs: .venv/.docs-ready
	$(BIN)/python docs/write_configuration.py
	$(BIN)/python -m sphinx -q -W --keep-going -n -E -b html docs build/docs
	@echo "documentation: build/docs/index.html"

setup: .venv/.$(DEVICE)-ready
setup-dev: .venv/.dev-ready

.venv/.uv-$(UV_VERSION):
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 12) else \
	  "forkdiv needs Python 3.11 or 3.12, $(PYTHON) is %d.%d; run make PYTHON=python3.11" % sys.version_info[:2])'
	@echo "setting up .venv"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)
	touch $@

.venv/.$(DEVICE)-ready: .venv/.uv-$(UV_VERSION) forkdiv/requirements/$(DEVICE).txt forkdiv/requirements/overrides.txt pyproject.toml
	@echo "installing the pinned packages ($(DEVICE)): a minute or two after the downloads"
	$(UV) --compile-bytecode $(TORCH) $(OVERRIDES) -r forkdiv/requirements/$(DEVICE).txt
	$(UV) --no-deps --no-build-isolation -e .
	touch $@

.venv/.dev-ready: .venv/.$(DEVICE)-ready forkdiv/requirements/dev.txt forkdiv/requirements/s3.txt
	$(UV) --compile-bytecode --no-deps -r forkdiv/requirements/dev.txt -r forkdiv/requirements/s3.txt
	touch $@

.venv/.docs-ready: .venv/.dev-ready forkdiv/requirements/docs.txt
	$(UV) --compile-bytecode --no-deps -r forkdiv/requirements/docs.txt
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
