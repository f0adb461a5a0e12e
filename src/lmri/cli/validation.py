"""Commands that re-run findings."""

from __future__ import annotations

import argparse

from lmri.cli.declaring import Commands
from lmri.cli.slices import plan_file, provenance_of, read_slice


def _validate(options: argparse.Namespace) -> None:
    values = read_slice(options, "validate", subject=options.subject)
    from lmri.config import LoadOptions, ScorersOptions, ValidateOptions
    from lmri.validate import validate_subject

    validate_subject(
        subject=options.subject,
        model=options.model,
        stimuli=options.stimuli,
        findings=options.findings,
        plan=plan_file(options.plans, values["sparse_plan"]),
        subjects=options.subjects,
        draws=options.draws,
        out=options.out,
        options=ValidateOptions.from_dict(values["validate"]),
        load=LoadOptions.from_dict(values["load"]),
        scorers=ScorersOptions.from_dict(values["scorers"]),
        seed=values["seed"],
        provenance=provenance_of("validate", values, values["seed"], options.model),
    )


def _score_draws(options: argparse.Namespace) -> None:
    values = read_slice(options, "draws", subject=options.subject)
    from lmri.config import LoadOptions, ScorersOptions, ValidateOptions
    from lmri.validate import score_draws

    score_draws(
        subject=options.subject,
        model=options.model,
        stimuli=options.stimuli,
        findings=options.findings,
        out=options.out,
        shard=options.shard,
        options=ValidateOptions.from_dict(values["validate"]),
        load=LoadOptions.from_dict(values["load"]),
        scorers=ScorersOptions.from_dict(values["scorers"]),
        seed=values["seed"],
        provenance=provenance_of("draws", values, values["seed"], options.model),
    )


def _compare(options: argparse.Namespace) -> None:
    from lmri.errors import LmriError

    if options.first is None:
        if options.config is None or options.out is None:
            raise LmriError(
                "lmri compare needs two subjects, or --config and --out to compare all of one base."
            )
        _compare_all(options)
        return
    if options.second is None:
        raise LmriError(f"lmri compare needs two subjects. Got '{options.first}' alone.")
    from lmri.store import write_text_atomic
    from lmri.validate import compare_subjects, comparison_lines, comparison_table

    found = compare_subjects(
        options.study, options.first, options.second, any_lineage=options.any_lineage
    )
    for line in comparison_lines(found):
        print(line)
    if options.out is not None:
        rows = comparison_table(found).to_json(orient="records", indent=1)
        write_text_atomic(options.out, f"{rows}\n")


def _compare_all(options: argparse.Namespace) -> None:
    values = read_slice(options, "compare")
    from lmri.validate import write_comparisons

    write_comparisons(
        study=options.study,
        subjects=values["subjects"],
        out=options.out,
        resamples=values["bootstrap"],
        seed=values["seed"],
        provenance=provenance_of("compare", values, values["seed"]),
    )


COMMANDS: Commands = {
    "draws": (
        _score_draws,
        "score one share of the control draws of a subject's findings",
        "--config --subject --model --stimuli --findings --shard --out",
    ),
    "validate": (
        _validate,
        "re-run a subject without the units of its findings and reach verdicts",
        "--config --subject --model --stimuli --findings --plans? --subjects? --draws? --out",
    ),
    "compare": (
        _compare,
        "compare two subjects by the difference of what their units do to the same trials",
        "first second --study --any-lineage? --config? --out?",
    ),
}
