"""The command that decodes."""

from __future__ import annotations

import argparse

from lmri.cli.declaring import Commands
from lmri.cli.slices import provenance_of, read_slice


def _decode(options: argparse.Namespace) -> None:
    values = read_slice(options, "decode", subject=options.subject)
    from lmri.config import ContrastOptions, DecodeOptions
    from lmri.decode import decode_subject

    decode_subject(
        subject=options.subject,
        recordings=options.recordings,
        findings=options.findings,
        out=options.out,
        tasks={name: tuple(carriers) for name, carriers in values["tasks"].items()},
        contrasts=[ContrastOptions.from_dict(entry) for entry in values["contrasts"]],
        phases=tuple(values["phases"]),
        options=DecodeOptions.from_dict(values["decode"]),
        seed=values["seed"],
        provenance=provenance_of("decode", values, values["seed"], options.model),
    )


COMMANDS: Commands = {
    "decode": (
        _decode,
        "tell which labels can be read from recorded activity, and where",
        "--config --subject --model --recordings --findings --out",
    ),
}
