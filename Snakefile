# The workflow of lmri: from stimuli to a verdict a person can read.
# Try `snakemake --dry-run`; another study: `snakemake --configfile config/studies/small.yaml`.

from snakemake.utils import min_version

min_version("9.0")

# Snakemake merges a file given as --configfile into this one, key by key: another study would
# inherit the subjects and contrasts of the default one.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"


pathvars:
    study=f"results/{STUDY.study}",


wildcard_constraints:
    base_seed=r"\d+",
    setting=one_of(STUDY.bottleneck.settings),
    shard=r"\d+",
    subject=one_of(STUDY.subjects),
    task=one_of(STUDY.tasks),
    series=one_of(STUDY.followed_series) or "none",


onstart:
    check_before_the_first_job()


onerror:
    explain_killed_jobs(log)


localrules:
    all,
    fetch,


rule all:
    default_target: True
    input:
        "<study>/report/index.html",
        "<study>/verdicts.parquet",


include: "workflow/rules/base.smk"
include: "workflow/rules/subject.smk"
include: "workflow/rules/stimuli.smk"
include: "workflow/rules/record.smk"
include: "workflow/rules/localise.smk"
include: "workflow/rules/group.smk"
include: "workflow/rules/sparse.smk"
include: "workflow/rules/information.smk"
include: "workflow/rules/connect.smk"
include: "workflow/rules/align.smk"
include: "workflow/rules/decode.smk"
include: "workflow/rules/encode.smk"
include: "workflow/rules/validate.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/experiment.smk"
include: "workflow/rules/bottleneck.smk"
include: "workflow/rules/report.smk"
