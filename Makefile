# make demo, make test: each installs what it needs into .venv first. `make help` lists the rest.
SHELL := bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
# What pip prints that is worth a line on the screen; its errors pass by themselves.
SHOWN := ^ *Downloading [^ ]+\.(whl|tar\.gz) .*|^Installing collected packages|^ *Building wheel for [^ ]+

.PHONY: help demo test lint benchmarks soak clean

help: ## list these targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/make \1: \2/p' Makefile

demo: .venv/.installed ## train, search, fine-tune, evaluate and report on digits (minutes; a second time seconds)
	@$(BIN)/fewstep

# One thread per process: two torch processes with two threads each on two cores are several times slower.
test: .venv/.installed-dev ## run the tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: .venv/.installed-dev ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmarks: .venv/.installed-dev ## measure the dynamic programme and the statistics (benchmarks/README.md)
	@for script in benchmarks/*.py; do echo "$$script"; $(BIN)/python "$$script" || exit; done

# SOAK="--kills 5 --sweep-kills 2 --mutations 500 --shorter" makes it a matter of minutes.
soak: .venv/.installed-dev ## kill runs, fill disks, spoil files: what runs must survive (an hour; soak/README.md)
	@OMP_NUM_THREADS=1 $(BIN)/python -m soak $(SOAK)

clean: ## remove the environment, caches and builds; outputs/ stays
	rm -rf .venv build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find src tests benchmarks soak examples -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed: pyproject.toml
	$(call install,.)

# k-diffusion asks for torchvision and more, which its samplers do not need and which would bring another torch.
# torch-fidelity stays out of site-packages: where torchvision does not fit torch, it makes `import torchmetrics` fail.
.venv/.installed-dev: pyproject.toml
	$(call install,.[dev])
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --no-deps k-diffusion==0.1.1.post1 \
		|| { rm -f $@; exit 1; }
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --no-deps --upgrade --target .venv/reference \
		torch-fidelity || echo "torch-fidelity could not be installed: the tests that compare with it are skipped" >&2
	@touch .venv/.installed

define install
@command -v "$(PYTHON)" >/dev/null \
	|| { echo "fewstep needs Python 3.10 or newer, and there is no '$(PYTHON)'; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	|| { echo "fewstep needs Python 3.10 or newer, and '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1); name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
@echo "Installing fewstep and what it needs into .venv (some minutes the first time)"
@"$(PYTHON)" -m venv .venv
@set -o pipefail; PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --editable '$(1)' | grep --line-buffered -oE '$(SHOWN)'
@touch $@
endef
