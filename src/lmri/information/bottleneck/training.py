"""The stage that trains the networks of one setting and measures them on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lmri.checks import check_choice, check_range
from lmri.config import BottleneckOptions
from lmri.errors import EvidenceError
from lmri.information.bottleneck.measure import measure_snapshot
from lmri.information.bottleneck.network import Snapshot, Training, train_networks
from lmri.information.bottleneck.task import make_task
from lmri.store import write_table

INFORMATION, TRAINING = "information", "training"
"""Tables of a setting: what layers tell, and how well the networks do."""

LEAST_SAMPLES = 64


def train_bottleneck(
    *, setting: str, out: Path, options: BottleneckOptions, seed: int, provenance: Mapping
) -> None:
    """Train all initialisations of a setting, and measure their layers along the way.

    Parameters
    ----------
    setting : str
        One of ``options.settings``.
    out : Path
        Folder for ``information.parquet`` and ``training.parquet``, see ``docs/bottleneck.md``.
    options : BottleneckOptions
        What is trained, how long, and how it is measured.
    seed : int
        Seed of the split, the first weights, the order of inputs and the inputs of aKDE.
    provenance : mapping
        Kept in both tables.

    Raises
    ------
    EvidenceError
        If the setting is unknown, or the options cannot be used.
    """
    check_choice(setting, options.settings, "setting", "bottleneck", EvidenceError)
    activation, l2 = options.settings[setting]
    training = Training(
        activation=activation,
        l2=l2,
        initialisations=options.initialisations,
        epochs=options.epochs,
        measured=options.measured,
        batch=options.batch,
        rate=options.rate,
        seed=seed,
    )
    task = make_task(seed)
    n_inputs = len(task.inputs)
    check_range(
        options.samples, "samples", "bottleneck", LEAST_SAMPLES, n_inputs, error=EvidenceError
    )
    rows = np.sort(np.random.default_rng([seed, 3]).permutation(n_inputs)[: options.samples])
    information, performance = [], []
    for snapshot in train_networks(task, training):
        information += measure_snapshot(snapshot, task.labels, rows, options.variances)
        performance += _performance(snapshot, task.majority)
    named = {"setting": setting, "activation": activation, "l2": l2}
    for name, found in ((INFORMATION, information), (TRAINING, performance)):
        table = pd.DataFrame(found)
        for place, (key, value) in enumerate(named.items()):
            table.insert(place, key, value)
        table.attrs["provenance"] = json.dumps(dict(provenance))
        write_table(out / f"{name}.parquet", table)


def _performance(snapshot: Snapshot, majority: float) -> list[dict[str, object]]:
    return [
        {
            "epoch": snapshot.epoch,
            "initialisation": number,
            "loss_training": float(snapshot.loss["training"][number]),
            "loss_test": float(snapshot.loss["test"][number]),
            "accuracy_training": float(snapshot.accuracy["training"][number]),
            "accuracy_test": float(snapshot.accuracy["test"][number]),
            "majority": majority,
        }
        for number in range(len(snapshot.accuracy["test"]))
    ]
