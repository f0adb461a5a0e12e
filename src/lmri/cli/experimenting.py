"""The command that runs an experiment."""

from __future__ import annotations

import argparse

from lmri.cli.declaring import Commands
from lmri.cli.slices import provenance_of, read_slice


def _experiment(options: argparse.Namespace) -> None:
    name = options.experiment
    values = read_slice(options, "experiment", subject=options.subject, experiment=name)
    from lmri.config import EXPERIMENTS, ContrastOptions, EvidenceOptions, LoadOptions
    from lmri.experiment import run_experiment

    run_experiment(
        subject=options.subject,
        experiment=name,
        model=options.model,
        stimuli=options.stimuli,
        recordings=options.recordings,
        findings=options.findings,
        out=options.out,
        tasks=values["tasks"],
        contrasts=[ContrastOptions.from_dict(entry) for entry in values["contrasts"]],
        evidence=EvidenceOptions.from_dict(values["evidence"]),
        options=EXPERIMENTS[name].from_dict(values["options"]),
        max_new_tokens=values["max_new_tokens"],
        rows=values["rows"],
        bootstrap=values["bootstrap"],
        load=LoadOptions.from_dict(values["load"]),
        seed=values["seed"],
        provenance=provenance_of("experiment", values, values["seed"], options.model),
    )


COMMANDS: Commands = {
    "experiment": (
        _experiment,
        "run an experiment on a subject, with claims that were fixed before",
        "--config --subject --experiment --model --stimuli --recordings --findings --out",
    ),
}
