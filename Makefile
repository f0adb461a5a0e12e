# make demo    run the default study and say where its report is
# make test    run the tests
# Both set up .venv first; see also test-slurm, test-triton, test-newcomer, lint, format, report, unlock, clean.

PYTHON ?= python3
PIP_ARGS ?=
CORES ?= all
CONFIGFILE ?= config/config.yaml
# Of a large machine not all cores: each process takes about a gigabyte.
# Files in the order of tests/conftest.py, the slow ones first; xdist's own begins with those that have
# most tests, and leaves slow files with few to the end.
PYTEST_ARGS ?= -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

BIN := .venv/bin
READY := .venv/.ready
# Tools and jobs find the environment first, whether it was activated or not.
RUN = PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: demo test test-slurm test-triton test-newcomer lint docs format report unlock clean moved
.DEFAULT_GOAL := demo

demo: $(READY)
	@$(RUN) .ci/study $(CONFIGFILE) $(CORES)

test: $(READY)
	$(RUN) pytest $(PYTEST_ARGS)

# A small study through a real Slurm on this machine; installs Debian's packages, needs root.
test-slurm: $(READY)
	$(RUN) .ci/slurm

# Kernels of a GPU in Triton's interpreter: some minutes. Triton is not among the constraints, as each
# build of torch for CUDA asks for one of its own.
test-triton: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check triton==3.9.0
	$(RUN) pytest tests/unit/sparse/kernels/test_triton.py

# What the README says first, typed in a clean copy with an empty home: a set-up, a study, the tests.
test-newcomer:
	.ci/newcomer

lint: $(READY)
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) codespell
	$(RUN) lint-imports
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) python .ci/lint_workflow.py

# The documentation as a site: build/site/index.html. Stops at a link that leads nowhere.
docs: $(READY)
	$(RUN) python .ci/configuration_page.py
	$(RUN) mkdocs build --quiet

format: $(READY)
	$(RUN) ruff check --fix .
	$(RUN) ruff format .
	$(RUN) snakefmt Snakefile workflow

# The report of whatever is there, also of a study that failed half-way.
report: $(READY)
	@study=$$($(RUN) lmri check $(CONFIGFILE) | sed -n 's/^study *//p'); \
	$(RUN) lmri report --config $(CONFIGFILE) --study results/$$study --out results/$$study/report

# After a run that was killed: its lock keeps every other run out.
unlock: $(READY)
	$(RUN) snakemake --cores 1 --configfile $(CONFIGFILE) --unlock

clean:
	rm -rf .venv .ruff_cache .pytest_cache .import_linter_cache build src/*.egg-info

$(READY): pyproject.toml constraints.txt $(if $(filter-out $(CURDIR),$(shell cat .venv/.folder 2>/dev/null)),moved)
	@.ci/setup $(PYTHON) $(PIP_ARGS)
	@touch $@
