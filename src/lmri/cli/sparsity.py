"""Commands that calibrate and run sparse plans."""

from __future__ import annotations

import argparse

from lmri.cli.declaring import Commands
from lmri.cli.slices import plan_file, provenance_of, read_slice


def _calibrate(options: argparse.Namespace) -> None:
    values = read_slice(options, "calibrate", subject=options.subject)
    from lmri.config import LoadOptions, SparseOptions
    from lmri.sparse import calibrate_subject

    calibrate_subject(
        subject=options.subject,
        model=options.model,
        recordings=options.recordings,
        out=options.out,
        options=SparseOptions.from_dict(values["sparse"]),
        load=LoadOptions.from_dict(values["load"]),
        seed=values["seed"],
        provenance=provenance_of("calibrate", values, values["seed"], options.model),
    )


def _record_sparse(options: argparse.Namespace) -> None:
    values = read_slice(options, "record_sparse", subject=options.subject, task=options.task)
    from lmri.config import LoadOptions, RecordOptions
    from lmri.sparse import record_sparse

    record_sparse(
        out=options.out,
        manifest=options.manifest,
        subject=options.subject,
        model=options.model,
        task=options.task,
        stimuli=options.stimuli,
        plan=plan_file(options.plans, values["plan"]),
        options=RecordOptions.from_dict(values["record"]),
        load=LoadOptions.from_dict(values["load"]),
        seed=values["seed"],
        provenance=provenance_of("record_sparse", values, values["seed"], options.model),
    )


def _sparse_run(options: argparse.Namespace) -> None:
    values = read_slice(options, "sparse_run", subject=options.subject)
    from lmri.config import LoadOptions, SparseOptions
    from lmri.sparse import measure_subject

    measure_subject(
        subject=options.subject,
        model=options.model,
        stimuli=options.stimuli,
        tasks=values["tasks"],
        plans=options.plans,
        out=options.out,
        options=SparseOptions.from_dict(values["sparse"]),
        load=LoadOptions.from_dict(values["load"]),
        seed=values["seed"],
        provenance=provenance_of("sparse_run", values, values["seed"], options.model),
    )


COMMANDS: Commands = {
    "calibrate": (
        _calibrate,
        "calibrate the sparse policies of a study on recorded trials",
        "--config --subject --model --recordings --out",
    ),
    "record-sparse": (
        _record_sparse,
        "record a subject while it runs under a sparse plan",
        "--config --subject --model --task --stimuli --plans --out --manifest",
    ),
    "sparse-run": (
        _sparse_run,
        "run a subject under its sparse plans: quality, sparsity, speed",
        "--config --subject --model --stimuli --plans --out",
    ),
}
