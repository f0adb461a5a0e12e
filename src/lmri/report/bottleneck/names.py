"""Words of the page of small networks."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lmri.report import words

ACTIVATIONS = {"elu": "ELU", "relu": "ReLU", "swish": "Swish"}
CHANNELS = {"ebab": "adaptive bins (EBAB)", "bins": "fixed bins", "all": "all that decide"}
NOISE = "akde_"


def activation_name(activation: str) -> str:
    """Name an activation for people."""
    return ACTIVATIONS.get(activation, words.readable(activation))


def setting_name(row: Mapping) -> str:
    """Name a setting by its activation and penalty."""
    name = activation_name(row["activation"])
    return f"{name}, L2 {row['l2']:g}" if row["l2"] else name


def channel_name(channel: str) -> str:
    """Name a channel for people."""
    if channel.startswith(NOISE):
        return f"adaptive noise (aKDE), variance {channel.removeprefix(NOISE)}"
    return CHANNELS.get(channel, words.readable(channel))


def layer_name(layer: str) -> str:
    """Name a layer for people."""
    return words.readable(layer)


def penalised(table: pd.DataFrame) -> pd.Series:
    """Which rows are of settings with a penalty."""
    return table["l2"] > 0
