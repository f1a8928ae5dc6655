# make demo | test | build | check | soak | bench | peers | pictures | fuzz | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install

.DEFAULT_GOAL := build
.PHONY: build tools peers programs-c test test-c check soak demo bench pictures fuzz clean FORCE
.DELETE_ON_ERROR:
# Two pips in one environment would tread on each other; ninja uses the cores all the same.
.NOTPARALLEL:
SHELL := /bin/sh

ifneq ($(filter-out clean,$(or $(MAKECMDGOALS),build)),)
MISSING := $(shell tools/prerequisites $(PYTHON))
ifneq ($(MISSING),)
$(error $(MISSING))
endif
endif

# What an installed package consists of. A file that is gone counts as a change too.
SOURCES := $(shell find c src meson.build meson.options pyproject.toml -type f -not -path '*/__pycache__/*' | LC_ALL=C sort)
ifneq ($(shell cat $(VENV)/sources 2>/dev/null),$(SOURCES))
$(VENV)/built: FORCE
endif

build: $(VENV)/built

# Build tools inside the environment, so that the wheel and the C tests are built by the same meson and ninja, and
# incrementally. A new environment may mean another interpreter: what was built for the old one goes.
$(VENV)/made:
	rm -rf $(VENV) build
	$(PYTHON) -m venv $(VENV)
	$(PIP) 'meson-python >= 0.15' 'meson >= 1.2' ninja
	touch $@

# $(call install-listed,NAME,LIST): what pyproject names in that list of [project]. Both lists are pyproject's, and pip is
# only asked when it has changed.
define install-listed
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]$(2), sep="\n")' >$(VENV)/$(1).txt
	$(PIP) -r $(VENV)/$(1).txt
	touch $(VENV)/$(1)
endef

# What the package imports.
$(VENV)/dependencies: pyproject.toml | $(VENV)/made
	$(call install-listed,dependencies,["dependencies"])

$(VENV)/built: $(VENV)/made $(VENV)/dependencies $(SOURCES)
	mkdir -p build/wheel
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) --no-build-isolation --no-deps --force-reinstall --config-settings=build-dir=build/wheel .
	@echo '$(SOURCES)' >$(VENV)/sources
	@touch $@

# What testing and checking need besides.
$(VENV)/dev: pyproject.toml | $(VENV)/made
	$(call install-listed,dev,["optional-dependencies"]["dev"])

tools: $(VENV)/dev

# $(call compile,DIRECTORY,MESON OPTIONS). Configured anew each time, which takes a second: a C file that has appeared is not
# something that ninja would see.
define compile
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/meson setup $(if $(wildcard $(1)/build.ninja),--reconfigure) $(1) \
		-Dtests=true $(2) >/dev/null
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/meson compile -C $(1)
endef

programs-c: | $(VENV)/made
	$(call compile,build/c,-Dwarning_level=2)

test-c: programs-c
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/meson test -C build/c --no-rebuild --print-errorlogs

test: build tools
	$(MAKE) --no-print-directory test-c
	$(BIN)/python -W error -m pytest

# Warnings are errors here and nowhere else: another compiler's new warning must not keep a newcomer from testing.
check: build tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(call compile,build/check,-Dwarning_level=2 -Dwerror=true)

soak: build tools programs-c
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/meson test -C build/c --no-rebuild --verbose --timeout-multiplier 0 --test-args=--soak
	$(BIN)/python -W error -m pytest -m soak

demo: build
	$(BIN)/python examples/demo

# One by one: what has no wheel for this interpreter is left out, and the benchmark says so.
$(VENV)/peers: pyproject.toml | $(VENV)/made
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"], sep="\n")' >$@.txt
	while read -r peer; do $(PIP) "$$peer" || echo "not installed: $$peer"; done <$@.txt
	@for peer in redis-server faketime; do command -v $$peer >/dev/null || echo "not installed: $$peer (Debian: $$peer)"; done
	touch $@

peers: $(VENV)/peers

# Each of them is a program; what they share is in benchmarks/measuring.
bench: build tools peers
	set -e; for each in benchmarks/*.py; do echo "== $$each"; $(BIN)/python $$each; done

# The README's picture of a report, taken of one of this machine; with chromium.
pictures: build tools
	$(BIN)/python docs/pictures/report.py

# What reads images, cores, kernels and pages, fed with whatever gets further in it. The corpus stays, and is out of git.
FUZZ_SECONDS ?= 60

$(VENV)/fuzz: pyproject.toml | $(VENV)/made
	$(call install-listed,fuzz,["optional-dependencies"]["fuzz"])

fuzz: build tools $(VENV)/fuzz
	mkdir -p build/fuzz
	cd build/fuzz && ../../$(BIN)/python ../../tests/fuzz/image.py -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
		-rss_limit_mb=1500 -max_len=20000 -print_final_stats=1
	cd build/fuzz && ../../$(BIN)/python ../../tests/fuzz/page.py -max_total_time=$(FUZZ_SECONDS) -timeout=10

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
