# The checked study and the helpers of the rules; no rules here.

import json
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from lmri.config import STAGES, StudyConfig, read_yaml, stage_slice
from lmri.errors import LmriError
from lmri.store.provenance import code_hash
from lmri.store.weight_files import loading_mb

# Jobs call `lmri`: the one installed beside the Python that runs Snakemake, also when its
# environment was never activated.
shell.prefix(f"export PATH={json.dumps(str(Path(sys.executable).parent))}:$PATH; ")


# What begins every message; a workflow that uses this one as a module may have no file at all.
SOURCE = " + ".join(map(os.path.relpath, workflow.configfiles)) or "the configuration"


def read_study():
    """The study of this run, checked; a user's mistake ends the run with one line."""
    try:
        for path in workflow.configfiles:
            read_yaml(path)  # Snakemake keeps the last of equal keys
        study = StudyConfig.from_dict(config, SOURCE)
        study.check_files(SOURCE)
    except LmriError as error:
        raise WorkflowError(str(error))
    return study


STUDY = read_study()
RECORDED = expand("{task}/{shard}", task=STUDY.tasks, shard=range(STUDY.record.shards))


def check_before_the_first_job():
    """Read the tables and the contrasts; not at every parse, since it takes seconds."""
    from lmri.preflight.inputs import check_inputs

    try:
        check_inputs(STUDY, SOURCE)
    except LmriError as error:
        raise WorkflowError(str(error))


def explain_killed_jobs(logs):
    """A job that is killed cannot say so itself; its exit status is in the logs of the run."""
    said = "".join(Path(log).read_text(encoding="utf-8") for log in logs)
    if "returned non-zero exit status 137" in said:
        print(
            "lmri: error: a job was killed: out of memory? What is finished is kept. Run again, "
            "with fewer jobs at once (--cores 1) if memory is short.",
            file=sys.stderr,
        )


# A wildcard constraint that nothing meets, where a rule has no jobs.
NO_NAME = "(?!)"


def one_of(names):
    """A wildcard constraint: any of these names, and nothing else."""
    return "|".join(map(re.escape, names))


def slice_of(stage):
    """The part of the study that a job of this stage reads, as JSON, by the job's wildcards."""
    _, selectors = STAGES[stage]

    def as_json(wildcards):
        chosen = {key: wildcards[key] for key in selectors}
        if "base_seed" in chosen:
            chosen["base_seed"] = int(chosen["base_seed"])
        # The report shows subjects and contrasts in the order of the study; no other job knows it.
        in_order = stage == "report"
        return json.dumps(stage_slice(STUDY, stage, **chosen), sort_keys=not in_order)

    return as_json


def growing(amount):
    """A resource of which every attempt gets more: a job that was killed for it is tried again.

    Attempts are made by the `retries` of a profile.
    """

    def grown(wildcards, attempt):
        return attempt * amount

    return grown


def with_subject(base_mb):
    """Memory of a job that loads its subject: that of the job, and that of the weights.

    It is asked for when the subject is there; before, as in a dry run, weights count nothing.
    """

    def in_mb(wildcards, input, attempt):
        dtype = STUDY.subjects[wildcards.subject].load.dtype
        return attempt * (base_mb + loading_mb(input.model, dtype))

    return in_mb


def gpus(wildcards):
    """One GPU for a subject that the study puts on one, none for others.

    More than one, for a device_map, is the business of a profile (set-resources).
    """
    load = STUDY.subjects[wildcards.subject].load
    return int(load.device_map is not None or load.device != "cpu")


def base_of(wildcards):
    """The base that a trained subject starts from; nothing for other subjects."""
    seed = STUDY.subjects[wildcards.subject].base_seed
    return [] if seed is None else [f"<study>/bases/{seed}"]


def table_of(wildcards):
    """The file that a task with source: table is read from; nothing for tasks of the world."""
    path = STUDY.tasks[wildcards.task].path
    return [] if path is None else [path]


def dictionary_of(wildcards):
    """The file whose features are mapped and switched off; nothing for studies without."""
    causal = STUDY.localise.causal
    return [] if causal is None or causal.dictionary is None else [causal.dictionary]


def stimuli_folder(wildcards, input):
    """The folder of the stimuli tables among the inputs."""
    return str(Path(input.stimuli[0]).parent)


def draws_folder(wildcards, input):
    """The folder of the scored control draws, as an argument; nothing where there are none."""
    return f" --draws {Path(input.draws[0]).parent}" if input.draws else ""


def recordings_folder(wildcards, input):
    """The folder of a subject's recordings: <folder>/<task>/<shard>.zarr."""
    return str(Path(input.stores[0]).parents[1])


def all_recordings_folder(wildcards, input):
    """The folder of the recordings of all subjects: <folder>/<subject>/<task>/<shard>.zarr."""
    return str(Path(input.stores[0]).parents[2])


def recordings_of_series(ending):
    """The recordings of a series, where sensitive units are looked for in them; else nothing."""

    def stores(wildcards):
        if not STUDY.sensitive_phases:
            return []
        return expand(
            "<study>/recordings/{subject}/{task}/{shard}.{ending}",
            subject=[entry.name for entry in STUDY.series[wildcards.series]],
            task=STUDY.informed_tasks,
            shard=range(STUDY.record.shards),
            ending=ending,
        )

    return stores


def settings_folder(wildcards, input):
    """The folder of all trained settings: <folder>/<setting>/<table>.parquet."""
    return str(Path(input[0]).parents[1])


def maps_folder(wildcards, input):
    """The folder of the maps of all subjects."""
    return str(Path(input.maps[0]).parent)


def profiles_folder(wildcards, input):
    """The folder of the information of all subjects."""
    return str(Path(input.profiles[0]).parent)


def findings_folder(wildcards, input):
    """The folder of the findings of all subjects."""
    return str(Path(input.findings[0]).parent)
