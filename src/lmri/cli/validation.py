"""Commands that re-run findings."""

from __future__ import annotations

import argparse

from lmri.cli.declaring import Commands
from lmri.cli.slices import plan_file, provenance_of, read_slice


def _validate(options: argparse.Namespace) -> None:
    values = read_slice(options, "validate", subject=options.subject)
    from lmri.config import LoadOptions, ValidateOptions
    from lmri.validate import validate_subject

    validate_subject(
        subject=options.subject,
        model=options.model,
        stimuli=options.stimuli,
        findings=options.findings,
        plan=plan_file(options.plans, values["sparse_plan"]),
        subjects=options.subjects,
        out=options.out,
        options=ValidateOptions.from_dict(values["validate"]),
        load=LoadOptions.from_dict(values["load"]),
        seed=values["seed"],
        provenance=provenance_of("validate", values, values["seed"], options.model),
    )


COMMANDS: Commands = {
    "validate": (
        _validate,
        "re-run a subject without the units of its findings and reach verdicts",
        "--config --subject --model --stimuli --findings --plans? --subjects? --out",
    ),
}
