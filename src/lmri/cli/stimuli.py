"""Commands that make stimuli."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from lmri.cli.declaring import Commands
from lmri.cli.slices import provenance_of, read_slice
from lmri.errors import LmriError


def _stimuli(options: argparse.Namespace) -> None:
    if options.preview:
        _preview(options)
        return
    if options.task is None or options.out is None:
        raise LmriError("lmri stimuli needs --task and --out, or --preview.")
    values = read_slice(options, "stimuli", task=options.task)
    from lmri.config import SplitOptions, TaskOptions, WorldOptions
    from lmri.stimuli import write_stimuli

    write_stimuli(
        out=options.out,
        task=options.task,
        options=TaskOptions.from_dict(values["task"]),
        splits=SplitOptions.from_dict(values["splits"]),
        world=WorldOptions.from_dict(values["world"]),
        seed=values["seed"],
        provenance=provenance_of("stimuli", values, values["seed"]),
    )


def _preview(options: argparse.Namespace) -> None:
    from lmri.checks import check_choice
    from lmri.config import load_study
    from lmri.preflight.inputs import preview_tokenizer
    from lmri.stimuli import legend, make_stimuli, preview_task

    study = load_study(Path(options.config))
    if options.task is not None:
        check_choice(options.task, study.tasks, "task", options.config)
    tokenizer = preview_tokenizer(study, options.model)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(legend(colour=colour))
    for name, task in study.tasks.items():
        if options.task in {None, name}:
            table = make_stimuli(
                task=name, options=task, splits=study.splits, world=study.world, seed=study.seed
            )
            print("", *preview_task(name, table, tokenizer, colour=colour), sep="\n")


COMMANDS: Commands = {
    "stimuli": (
        _stimuli,
        "write the stimuli of a task, or show one trial of every condition",
        "--config --task? --out? --preview? --model?",
    ),
}
