"""Commands that tell how units work together, and what subjects share."""

from __future__ import annotations

import argparse

from lmri.cli.declaring import Commands
from lmri.cli.slices import provenance_of, read_slice


def _connect(options: argparse.Namespace) -> None:
    values = read_slice(options, "connect", subject=options.subject)
    from lmri.config import ConnectOptions
    from lmri.connect import connect_subject

    connect_subject(
        subject=options.subject,
        recordings=options.recordings,
        out=options.out,
        tasks={name: tuple(carriers) for name, carriers in values["tasks"].items()},
        contrasts=values["contrasts"],
        options=ConnectOptions.from_dict(values["connect"]),
        seed=values["seed"],
        provenance=provenance_of("connect", values, values["seed"]),
    )


def _align(options: argparse.Namespace) -> None:
    values = read_slice(options, "align")
    from lmri.align import align_subjects
    from lmri.config import AlignOptions

    align_subjects(
        recordings=options.recordings,
        out=options.out,
        subjects=values["subjects"],
        tasks={name: tuple(carriers) for name, carriers in values["tasks"].items()},
        options=AlignOptions.from_dict(values["align"]),
        seed=values["seed"],
        provenance=provenance_of("align", values, values["seed"]),
    )


COMMANDS: Commands = {
    "connect": (
        _connect,
        "estimate and test the networks of a subject's units",
        "--config --subject --recordings --out",
    ),
    "align": (
        _align,
        "compare the representations of all subjects in the same trials",
        "--config --recordings --out",
    ),
}
