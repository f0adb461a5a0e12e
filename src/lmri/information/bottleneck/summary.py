"""The stage that puts the settings together: planes, compression, claims."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lmri.config import BottleneckOptions
from lmri.errors import EvidenceError
from lmri.information.bottleneck.claims import bootstrap, decide_claims, mean_over
from lmri.information.bottleneck.network import LAYERS
from lmri.information.bottleneck.scores import Trajectories
from lmri.information.bottleneck.training import INFORMATION, TRAINING
from lmri.store import atomic_directory, read_table, write_table

PLACE = ["setting", "activation", "l2"]
INFORMATION_COLUMNS = (
    *("setting", "activation", "l2", "epoch", "initialisation", "layer", "channel"),
    *("i_xt", "i_ty", "n", "saturated"),
)
TRAINING_COLUMNS = (
    *("setting", "activation", "l2", "epoch", "initialisation"),
    *("accuracy_training", "accuracy_test", "majority"),
)


def summarise_bottleneck(
    *, settings: Path, out: Path, options: BottleneckOptions, seed: int, provenance: Mapping
) -> None:
    """Score the layers of all settings and decide the claims.

    Parameters
    ----------
    settings : Path
        Folder with one folder for each setting, from
        :func:`lmri.information.bottleneck.train_bottleneck`.
    out : Path
        Folder for ``networks``, ``planes``, ``scores``, ``compression`` and ``claims``, all
        parquet; see ``docs/bottleneck.md``.
    options : BottleneckOptions
        Which settings, and the draws of the bootstrap.
    seed : int
        Its seed.
    provenance : mapping
        Kept in every table.

    Raises
    ------
    EvidenceError
        If the study has no settings, or they were not trained alike.
    StoreError
        If a table is missing or damaged.
    """
    if not options.settings:
        raise EvidenceError("The study must name 'bottleneck.activations' to summarise. Got none.")
    information = _read(settings, options, INFORMATION, INFORMATION_COLUMNS)
    training = _read(settings, options, TRAINING, TRAINING_COLUMNS)
    study = Trajectories.from_tables(options.settings, information, training)
    tables = {
        "networks": _networks(study, training, options.bootstrap, seed),
        "planes": _planes(study, information),
        "scores": _scores(study),
        "compression": _compression(study, information, options.bootstrap, seed),
        "claims": decide_claims(study, options.bootstrap, seed),
    }
    with atomic_directory(out) as partial:
        for name, table in tables.items():
            table.attrs["provenance"] = json.dumps(dict(provenance))
            write_table(partial / f"{name}.parquet", table)


def _read(
    settings: Path, options: BottleneckOptions, name: str, columns: tuple[str, ...]
) -> pd.DataFrame:
    paths = (settings / setting / f"{name}.parquet" for setting in options.settings)
    return pd.concat([read_table(path, columns) for path in paths], ignore_index=True)


def _named(study: Trajectories, place: int) -> dict[str, object]:
    name = list(study.settings)[place]
    activation, l2 = study.settings[name]
    return {"setting": name, "activation": activation, "l2": l2}


def _networks(study: Trajectories, training: pd.DataFrame, draws: int, seed: int) -> pd.DataFrame:
    """How many networks learned, and how well those generalise."""
    last = training[training["epoch"] == study.epochs[-1]]
    rows = []
    for place, (name, learned) in enumerate(zip(study.settings, study.learned, strict=True)):
        accuracy = np.where(learned, study.accuracy[place], np.nan)
        low, high = bootstrap(
            lambda chosen, own=accuracy: mean_over(own[chosen]), len(accuracy), draws, seed
        )
        own = last[last["setting"] == name].sort_values("initialisation")
        rows.append(
            {
                **_named(study, place),
                "n": len(learned),
                "learned": int(learned.sum()),
                "accuracy_training": float(mean_over(own["accuracy_training"].to_numpy()[learned])),
                "accuracy_test": float(mean_over(accuracy)),
                "low": float(low),
                "high": float(high),
            }
        )
    return pd.DataFrame(rows)


def _planes(study: Trajectories, information: pd.DataFrame) -> pd.DataFrame:
    """Mean information over the networks that have learned, by epoch."""
    kept = _of_learned(study, information)
    keys = [*PLACE, "channel", "layer", "epoch"]
    return (
        kept.groupby(keys, sort=False)
        .agg(i_xt=("i_xt", "mean"), i_ty=("i_ty", "mean"), n=("i_xt", "size"))
        .reset_index()
    )


def _of_learned(study: Trajectories, information: pd.DataFrame) -> pd.DataFrame:
    settings = information["setting"].map({name: i for i, name in enumerate(study.settings)})
    return information[study.learned[settings, information["initialisation"]]]


def _scores(study: Trajectories) -> pd.DataFrame:
    """Compression of every layer of every network that has learned."""
    tables = []
    for channel, scores in study.scores.items():
        for place, own in enumerate(scores):
            numbers, layers = np.indices(own.shape)
            table = pd.DataFrame(
                {
                    **_named(study, place),
                    "channel": channel,
                    "initialisation": numbers.ravel(),
                    "layer": np.array(LAYERS)[layers.ravel()],
                    "compression": own.ravel(),
                    "accuracy_test": np.repeat(study.accuracy[place], len(LAYERS)),
                }
            )
            tables.append(table[study.learned[place, table["initialisation"]]])
    return pd.concat(tables, ignore_index=True)


def _compression(
    study: Trajectories, information: pd.DataFrame, draws: int, seed: int
) -> pd.DataFrame:
    """Mean compression by layer, with its interval over initialisations."""
    keys = ["setting", "channel", "layer"]
    saturated = _of_learned(study, information).groupby(keys)["saturated"].mean()
    rows = []
    for channel, scores in study.scores.items():
        for place, own in enumerate(scores):
            low, high = bootstrap(
                lambda chosen, own=own: mean_over(own[chosen], axis=0), len(own), draws, seed
            )
            named = _named(study, place)
            rows += [
                {
                    **named,
                    "channel": channel,
                    "layer": layer,
                    "compression": float(mean_over(own[:, number])),
                    "low": float(low[number]),
                    "high": float(high[number]),
                    "n": int(np.isfinite(own[:, number]).sum()),
                    "saturated": float(saturated.get((named["setting"], channel, layer), np.nan)),
                }
                for number, layer in enumerate(LAYERS)
            ]
    return pd.DataFrame(rows)
