# make demo    run the default study and say where its report is
# make test    run the tests
# Both set up .venv first; see also lint, format, report, clean.

PYTHON ?= python3
PIP_ARGS ?=
CORES ?= all
CONFIGFILE ?= config/config.yaml
PYTEST_ARGS ?=

BIN := .venv/bin
READY := .venv/.ready
# Tools and jobs find the environment first, whether it was activated or not.
RUN = PATH="$(CURDIR)/$(BIN):$$PATH"
SNAKEMAKE = $(RUN) snakemake --cores $(CORES) --configfile $(CONFIGFILE)

.PHONY: demo test lint format report clean moved
.DEFAULT_GOAL := demo

demo: $(READY)
	@plan=$$($(RUN) lmri check $(CONFIGFILE)) || exit 1; printf '%s\n' "$$plan"; \
	$(SNAKEMAKE) --quiet rules host || { \
	grep -rh '^lmri: error' results/*/logs 2>/dev/null; \
	printf '\nThe study stopped. The logs of its jobs: results/*/logs\n'; exit 1; }; \
	printf '\nThe report: %s/%s\n' "$(CURDIR)" "$$(printf '%s' "$$plan" | sed -n 's/^report *//p')"

test: $(READY)
	$(RUN) pytest $(PYTEST_ARGS)

lint: $(READY)
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) codespell
	$(RUN) lint-imports
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) python .ci/lint_workflow.py

format: $(READY)
	$(RUN) ruff check --fix .
	$(RUN) ruff format .
	$(RUN) snakefmt Snakefile workflow

# The report of whatever is there, also of a study that failed half-way.
report: $(READY)
	@study=$$($(RUN) lmri check $(CONFIGFILE) | sed -n 's/^study *//p'); \
	$(RUN) lmri report --config $(CONFIGFILE) --study results/$$study --out results/$$study/report

clean:
	rm -rf .venv .ruff_cache .pytest_cache .import_linter_cache build src/*.egg-info

$(READY): pyproject.toml constraints.txt $(if $(filter-out $(CURDIR),$(shell cat .venv/.folder 2>/dev/null)),moved)
	@.ci/setup $(PYTHON) $(PIP_ARGS)
	@touch $@
