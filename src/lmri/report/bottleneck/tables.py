"""Tables of small networks: what they must hold, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from lmri.config import StudyConfig
from lmri.report.reader import Reader
from lmri.store import read_table

SETTING = ("setting", "activation", "l2")
COLUMNS = {
    "networks": (*SETTING, "n", "learned", "accuracy_training", "accuracy_test", "low", "high"),
    "planes": (*SETTING, "channel", "layer", "epoch", "i_xt", "i_ty", "n"),
    "compression": (
        *(*SETTING, "channel", "layer", "compression", "low", "high", "n", "saturated"),
    ),
    "claims": (
        *("claim", "text", "meaning", "rule", "bound", "channel", "value", "low", "high", "n"),
        "verdict",
    ),
}
"""Tables of ``bottleneck/summary`` and their columns."""

SOURCE = "bottleneck/summary/{}.parquet"


def _empty(name: str) -> pd.DataFrame:
    return pd.DataFrame(columns=list(COLUMNS[name]))


@dataclass(frozen=True)
class Bottleneck:
    """Tables of the study; those that could not be read are empty.

    Attributes
    ----------
    networks, planes, compression, claims : DataFrame
        As in ``docs/bottleneck.md``.
    """

    networks: pd.DataFrame = field(default_factory=lambda: _empty("networks"))
    planes: pd.DataFrame = field(default_factory=lambda: _empty("planes"))
    compression: pd.DataFrame = field(default_factory=lambda: _empty("compression"))
    claims: pd.DataFrame = field(default_factory=lambda: _empty("claims"))


def read_bottleneck(reader: Reader, config: StudyConfig) -> Bottleneck:
    """Read the tables; those of a study without such networks are empty.

    Parameters
    ----------
    reader : Reader
        Reads below the study, and remembers what could not be read.
    config : StudyConfig
        Whether there are any.

    Returns
    -------
    Bottleneck
        The tables.
    """
    if not config.bottleneck.settings:
        return Bottleneck()
    return Bottleneck(
        **{
            name: reader.read(
                "study",
                SOURCE.format(name),
                lambda path, columns=columns: read_table(path, columns),
                _empty(name),
            )
            for name, columns in COLUMNS.items()
        }
    )
