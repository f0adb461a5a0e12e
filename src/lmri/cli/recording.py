"""Commands that record and that check what was recorded."""

from __future__ import annotations

import argparse

from lmri.cli.declaring import Commands
from lmri.cli.slices import provenance_of, read_slice

DAMAGED = 1
"""Exit code of ``verify`` when a store is not as it was written."""


def _record(options: argparse.Namespace) -> None:
    values = read_slice(options, "record", subject=options.subject, task=options.task)
    from lmri.config import LoadOptions, RecordOptions
    from lmri.record import record_task

    record_task(
        out=options.out,
        manifest=options.manifest,
        subject=options.subject,
        model=options.model,
        task=options.task,
        stimuli=options.stimuli,
        shard=options.shard,
        options=RecordOptions.from_dict(values["record"]),
        load=LoadOptions.from_dict(values["load"]),
        seed=values["seed"],
        provenance=provenance_of("record", values, values["seed"], options.model),
    )


def _verify(options: argparse.Namespace) -> int:
    from lmri.store import check_stores

    stores = damaged = files = 0
    for checked in check_stores(options.paths):
        print(checked, flush=True)
        stores += 1
        damaged += bool(checked.problems)
        files += len(checked.problems)
    print(f"{stores} stores checked: {stores - damaged} as written, {damaged} damaged")
    if damaged:
        print(
            f"{files} problems: remove each damaged store together with its manifest, "
            "then run again what wrote it"
        )
    return DAMAGED if damaged else 0


COMMANDS: Commands = {
    "record": (
        _record,
        "record a subject on one shard of a task",
        "--config --subject --model --task --stimuli --shard --out --manifest",
    ),
    "verify": (_verify, "check that stores hold the bytes of their manifests", "paths"),
}
