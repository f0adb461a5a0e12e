"""Commands that map contrasts."""

from __future__ import annotations

import argparse

from lmri.cli.declaring import Commands
from lmri.cli.slices import provenance_of, read_slice


def _localise(options: argparse.Namespace) -> None:
    values = read_slice(options, "localise", subject=options.subject)
    from lmri.config import (
        ClaimOptions,
        ContrastOptions,
        EvidenceOptions,
        LoadOptions,
        LocaliseOptions,
        ScorersOptions,
    )
    from lmri.localise import localise_subject

    localise_subject(
        subject=options.subject,
        model=options.model,
        stimuli=options.stimuli,
        recordings=options.recordings,
        maps=options.maps,
        findings=options.findings,
        tasks={name: tuple(carriers) for name, carriers in values["tasks"].items()},
        contrasts=[ContrastOptions.from_dict(entry) for entry in values["contrasts"]],
        options=LocaliseOptions.from_dict(values["localise"]),
        load=LoadOptions.from_dict(values["load"]),
        evidence=EvidenceOptions.from_dict(values["evidence"]),
        claims=values["claims"],
        stated=[ClaimOptions.from_dict(own) for own in values["stated"]],
        scorers=ScorersOptions.from_dict(values["scorers"]),
        seed=values["seed"],
        provenance=provenance_of("localise", values, values["seed"], options.model),
    )


def _group(options: argparse.Namespace) -> None:
    values = read_slice(options, "group")
    from lmri.config import ContrastOptions, LocaliseOptions
    from lmri.localise import map_group

    map_group(
        maps=options.maps,
        findings=options.findings,
        out=options.out,
        subjects=values["subjects"],
        contrasts=[ContrastOptions.from_dict(entry) for entry in values["contrasts"]],
        options=LocaliseOptions.from_dict(values["localise"]),
        alpha=values["alpha"],
        seed=values["seed"],
        provenance=provenance_of("group", values, values["seed"]),
    )


def _survive(options: argparse.Namespace) -> None:
    values = read_slice(options, "survive", subject=options.subject)
    from lmri.config import ContrastOptions, EvidenceOptions, LoadOptions, LocaliseOptions
    from lmri.localise import compare_maps

    compare_maps(
        subject=options.subject,
        model=options.model,
        stimuli=options.stimuli,
        maps=options.maps,
        recordings=options.recordings,
        out=options.out,
        carriers={name: tuple(carriers) for name, carriers in values["tasks"].items()},
        contrasts=[ContrastOptions.from_dict(entry) for entry in values["contrasts"]],
        options=LocaliseOptions.from_dict(values["localise"]),
        load=LoadOptions.from_dict(values["load"]),
        evidence=EvidenceOptions.from_dict(values["evidence"]),
        seed=values["seed"],
        provenance=provenance_of("survive", values, values["seed"], options.model),
    )


COMMANDS: Commands = {
    "localise": (
        _localise,
        "map the contrasts of a subject and fix its findings",
        "--config --subject --model --stimuli --recordings --maps --findings",
    ),
    "group": (_group, "compare the maps of all subjects", "--config --maps --findings --out"),
    "survive": (
        _survive,
        "compute the maps of a subject anew from other recordings, and compare",
        "--config --subject --model --stimuli --recordings --maps --out",
    ),
}
