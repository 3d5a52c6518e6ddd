# Each target below is enough on a fresh machine with make and Python 3.10 or newer:
#
#   make demo    segment the example clip into demo-out/
#   make test    run the tests
#   make lint    run the linter and the type checker
#   make clean   remove what these made, the virtual environment included
#
# The first call creates .venv and installs segspn into it with the versions in constraints.txt.
# What can be set on the command line:
#
#   PYTHON=python3.12   the interpreter to make .venv from
#   PIP_ARGS="..."      options for pip install. On Linux PyPI's torch is a CUDA build of several
#                       GB; without an NVIDIA GPU the CPU build is enough and far smaller:
#                       make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
#   DEMO_ARGS="..."     more options for the demo's `segspn segment`
#   PYTEST_ARGS="..."   options for pytest

PYTHON ?=
PIP_ARGS ?=
DEMO_ARGS ?=
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
# Stamps: an installation is repeated only when what it depends on has changed.
MADE := $(VENV)/.made
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.PHONY: demo test lint clean
.DELETE_ON_ERROR:

demo: $(INSTALLED)
	$(BIN)/segspn segment examples/bigbuckbunny.mp4 --mask examples/bigbuckbunny_first.png \
		--out demo-out --overwrite $(DEMO_ARGS)
	@echo
	@echo "The demo's results are in demo-out/:"
	@ls -1p demo-out | sed 's/^/  demo-out\//'

test: $(INSTALLED_DEV)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo-out .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@new_enough='import sys; sys.exit(sys.version_info < (3, 10))'; \
	python=; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.10); do \
		if "$$candidate" -c "$$new_enough" 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "segspn needs Python 3.10 or newer; $(or $(PYTHON),python3) is:" \
			"$$($(or $(PYTHON),python3) --version 2>&1 | head -n 1)." \
			"Install a newer one, or name one: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "$$python cannot make virtual environments: its modules venv and ensurepip are" \
			"missing. On Debian and Ubuntu: sudo apt install python$$version-venv" >&2; \
		exit 1; \
	fi; \
	echo "Creating $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV)
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt | $(MADE)
	@if [ "$$(uname -s)" = Linux ] && [ -z "$(PIP_ARGS)" ]; then \
		echo "Installing. torch may be a CUDA build of several GB; the head of the Makefile tells" \
			"how to get the smaller CPU build."; \
	fi
	$(INSTALL) -e .
	@touch $@

# vos-benchmark without what it asks for: see the comment at "dev" in pyproject.toml.
$(INSTALLED_DEV): $(INSTALLED)
	$(INSTALL) -e ".[dev]"
	$(INSTALL) --no-deps vos-benchmark
	@touch $@
