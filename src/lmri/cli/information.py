"""Commands that tell what activity says of trials."""

from __future__ import annotations

import argparse

from lmri.cli.declaring import Commands
from lmri.cli.slices import provenance_of, read_slice


def _information(options: argparse.Namespace) -> None:
    values = read_slice(options, "information", subject=options.subject)
    from lmri.config import InformationOptions, LoadOptions
    from lmri.information import information_subject

    information_subject(
        subject=options.subject,
        model=options.model,
        recordings=options.recordings,
        out=options.out,
        tasks={name: tuple(carriers) for name, carriers in values["tasks"].items()},
        options=InformationOptions.from_dict(values["information"]),
        load=LoadOptions.from_dict(values["load"]),
        seed=values["seed"],
        provenance=provenance_of("information", values, values["seed"], options.model),
    )


def _dynamics(options: argparse.Namespace) -> None:
    values = read_slice(options, "dynamics", series=options.series)
    from lmri.information import follow_series

    follow_series(
        series=options.series,
        profiles=options.profiles,
        study=options.study,
        out=options.out,
        steps=values["steps"],
        tasks=values["tasks"],
        sensitive=values["sensitive"],
        others=values["follow"],
        seed=values["seed"],
        provenance=provenance_of("dynamics", values, values["seed"]),
    )


def _bottleneck(options: argparse.Namespace) -> None:
    values = read_slice(options, "bottleneck", setting=options.setting)
    from lmri.config import BottleneckOptions
    from lmri.information.bottleneck import train_bottleneck

    train_bottleneck(
        setting=options.setting,
        out=options.out,
        options=BottleneckOptions.from_dict(values["bottleneck"]),
        seed=values["seed"],
        provenance=provenance_of("bottleneck", values, values["seed"]),
    )


def _bottleneck_summary(options: argparse.Namespace) -> None:
    values = read_slice(options, "bottleneck_summary")
    from lmri.config import BottleneckOptions
    from lmri.information.bottleneck import summarise_bottleneck

    summarise_bottleneck(
        settings=options.settings,
        out=options.out,
        options=BottleneckOptions.from_dict(values["bottleneck"]),
        seed=values["seed"],
        provenance=provenance_of("bottleneck_summary", values, values["seed"]),
    )


COMMANDS: Commands = {
    "information": (
        _information,
        "tell what recorded activity says of trials, layer by layer",
        "--config --subject --model --recordings --out",
    ),
    "dynamics": (
        _dynamics,
        "follow the information of subjects over a series of checkpoints",
        "--config --series --profiles --study --out",
    ),
    "bottleneck": (
        _bottleneck,
        "train small networks of one setting and measure their information",
        "--config --setting --out",
    ),
    "bottleneck-summary": (
        _bottleneck_summary,
        "score the compression of all settings and decide the claims",
        "--config --settings --out",
    ),
}
