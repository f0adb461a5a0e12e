"""The command that looks for examples of units."""

from __future__ import annotations

import argparse

from lmri.cli.declaring import Commands
from lmri.cli.slices import provenance_of, read_slice


def _examples(options: argparse.Namespace) -> None:
    values = read_slice(options, "examples", subject=options.subject)
    from lmri.config import ExampleOptions
    from lmri.examples import find_examples

    find_examples(
        subject=options.subject,
        model=options.model,
        recordings=options.recordings,
        findings=options.findings,
        maps=options.maps,
        out=options.out,
        tasks=values["tasks"],
        contrasts=values["contrasts"],
        names=values["maps"],
        phase=values["phase"],
        options=ExampleOptions.from_dict(values["examples"]),
        seed=values["seed"],
        provenance=provenance_of("examples", values, values["seed"], options.model),
    )


COMMANDS: Commands = {
    "examples": (
        _examples,
        "find the tokens that units of maps and findings respond to",
        "--config --subject --model --recordings --maps --findings --out",
    ),
}
