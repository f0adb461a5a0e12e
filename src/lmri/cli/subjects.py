"""Commands that make subjects and say what they are made of."""

from __future__ import annotations

import argparse

from lmri.cli.declaring import Commands
from lmri.cli.slices import provenance_of, read_slice


def _train_base(options: argparse.Namespace) -> None:
    values = read_slice(options, "base", base_seed=options.seed)
    from lmri.config import WorldOptions
    from lmri.subjects import Recipe, train_base

    world = WorldOptions.from_dict(values["world"])
    train_base(
        options.out,
        base_seed=options.seed,
        world_seed=world.seed,
        world_size=world.size,
        recipe=Recipe.from_dict(values["training"]),
    )


def _train(options: argparse.Namespace) -> None:
    values = read_slice(options, "subject", subject=options.subject)
    from lmri.config import SubjectOptions, WorldOptions
    from lmri.subjects import prepare_subject

    subject = SubjectOptions.from_dict(values["subject"])
    prepare_subject(
        out=options.out,
        manifest=options.manifest,
        options=subject,
        base=options.base,
        world=WorldOptions.from_dict(values["world"]),
        training=values["training"],
        provenance=provenance_of("subject", values, subject.seed or 0),
    )


def _anatomy(options: argparse.Namespace) -> None:
    from lmri.anatomy import anatomy_table, empty_model, read_configuration

    print(anatomy_table(empty_model(read_configuration(options.model_id, options.revision))))


COMMANDS: Commands = {
    "train-base": (
        _train_base,
        "train the base that embedded subjects start from",
        "--config --seed --out",
    ),
    "train": (
        _train,
        "prepare a subject: train it, unpack it, or point to it",
        "--config --subject --base --out --manifest",
    ),
    "anatomy": (
        _anatomy,
        "say what a model is made of and what recording it takes",
        "model_id --revision?",
    ),
}
