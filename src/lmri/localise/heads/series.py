"""Heads over checkpoints, and all scores of a subject's heads in one table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from lmri.errors import EvidenceError

HEADS = ("layer", "head")


def head_series(maps: Mapping[int, xr.Dataset], variable: str) -> xr.Dataset:
    """Follow a score of every head over the checkpoints of a series.

    Parameters
    ----------
    maps : mapping of int to Dataset
        Maps of the same subject by step, such as those of
        :func:`lmri.localise.heads.pattern_map`.
    variable : str
        The score, over (layer, head).

    Returns
    -------
    Dataset
        ``score`` (step, layer, head), steps ascending; ``jump`` (layer, head), the largest rise
        between two checkpoints that follow each other; ``jump_after`` and ``jump_until``, their
        steps; ``most`` (step), the score of the best head. Attributes ``variable``, and
        ``transition_after`` and ``transition_until``, between which ``most`` rises most.

    Raises
    ------
    EvidenceError
        If there are fewer than two checkpoints, one lacks the score, or their heads differ.
    """
    steps = sorted(maps)
    if len(steps) < 2:
        raise EvidenceError(
            f"A series of '{variable}' must have at least two checkpoints. Got {len(steps)}."
        )
    scores = [_score(maps[step], variable, f"step {step}") for step in steps]
    for step, score in zip(steps[1:], scores[1:], strict=True):
        if score.shape != scores[0].shape:
            raise EvidenceError(
                f"The heads of a series must be the same at every step. Got {scores[0].shape} at "
                f"step {steps[0]} and {score.shape} at step {step}."
            )
    values = np.stack([score.to_numpy() for score in scores])  # (steps, layers, heads)
    rises = np.diff(values, axis=0)
    # A head whose score is never a number has no jump: the first pair of steps stands there.
    largest = np.where(np.isnan(rises), -np.inf, rises).argmax(axis=0)
    most = np.nanmax(values.reshape(len(steps), -1), axis=1)
    turn = int(np.diff(most).argmax())
    after, until = np.array(steps[:-1]), np.array(steps[1:])
    return xr.Dataset(
        {
            "score": (("step", *HEADS), values),
            "jump": (HEADS, np.take_along_axis(rises, largest[None], axis=0)[0]),
            "jump_after": (HEADS, after[largest]),
            "jump_until": (HEADS, until[largest]),
            "most": ("step", most),
        },
        coords={"step": steps, "layer": scores[0]["layer"]},
        attrs={
            "variable": variable,
            "transition_after": int(after[turn]),
            "transition_until": int(until[turn]),
        },
    )


def head_table(maps: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Put all scores of a subject's heads into one table.

    Parameters
    ----------
    maps : mapping of str to Dataset
        Maps by name; every variable over (layer, head) alone becomes a column.

    Returns
    -------
    DataFrame
        ``layer``, ``head`` and a column per score, one row a head. Where two maps have a score of
        one name, as those of several tasks do, its column is ``<map>.<score>``.
    """
    found = [
        (name, str(variable), values)
        for name, dataset in maps.items()
        for variable, values in dataset.data_vars.items()
        if values.dims == HEADS
    ]
    names = [variable for _, variable, _ in found]
    columns = {
        f"{name}.{variable}" if names.count(variable) > 1 else variable: values.to_series()
        for name, variable, values in found
    }
    if not columns:
        return pd.DataFrame(columns=list(HEADS))
    table = pd.DataFrame(columns)
    table.index.names = list(HEADS)
    return table.reset_index()


def _score(dataset: xr.Dataset, variable: str, owner: str) -> xr.DataArray:
    if variable not in dataset or dataset[variable].dims != HEADS:
        have = ", ".join(sorted(map(str, dataset.data_vars)))
        raise EvidenceError(
            f"The score '{variable}' over layers and heads must be in {owner}. It has {have}."
        )
    return dataset[variable].assign_coords(head=np.arange(dataset.sizes["head"]))
