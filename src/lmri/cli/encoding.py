"""The command that encodes."""

from __future__ import annotations

import argparse

from lmri.cli.declaring import Commands
from lmri.cli.slices import provenance_of, read_slice


def _encode(options: argparse.Namespace) -> None:
    values = read_slice(options, "encode", subject=options.subject)
    from lmri.config import EncodeOptions, LoadOptions
    from lmri.encode import encode_subject

    encode_subject(
        subject=options.subject,
        model=options.model,
        recordings=options.recordings,
        out=options.out,
        tasks={name: tuple(carriers) for name, carriers in values["tasks"].items()},
        options=EncodeOptions.from_dict(values["encode"]),
        load=LoadOptions.from_dict(values["load"]),
        seed=values["seed"],
        provenance=provenance_of("encode", values, values["seed"], options.model),
    )


COMMANDS: Commands = {
    "encode": (
        _encode,
        "say which features of stimuli predict the activity of units",
        "--config --subject --model --recordings --out",
    ),
}
