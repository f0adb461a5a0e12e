"""Stimuli of the embedded world, as tables."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from lmri.world import Item, World

CARRIERS = {
    "events": ("place", "year"),
    "events_second": ("place", "year"),
    "relations": ("place",),
    "arithmetic": ("problem",),
    "copying": ("words",),
}
"""Tasks of the world and what carries their conditions."""

COPYING_TRIALS = 260


def world_trials(world: World, task: str, trials: int | None, seed: int) -> pd.DataFrame:
    """All trials of a task of the world, before splitting.

    Parameters
    ----------
    world : World
        The world.
    task : str
        One of :data:`CARRIERS`.
    trials : int or None
        Number of sequences of ``copying``; ignored elsewhere.
    seed : int
        Seed of the drawn sequences.

    Returns
    -------
    DataFrame
        The columns of ``docs/artefacts.md`` but ``split``.
    """
    items = _items(world, task, trials, seed)
    return pd.DataFrame([_row(world, task, item) for item in items])


def _items(world: World, task: str, trials: int | None, seed: int) -> Iterable[Item]:
    if task in {"events", "events_second"}:
        vocabulary = "first" if task == "events" else "second"
        return [world.event(p, y, vocabulary) for p in world.places for y in world.years]
    if task == "copying":
        return world.copying(trials or COPYING_TRIALS, np.random.default_rng([seed, 1]))
    return getattr(world, task)()


def _row(world: World, task: str, item: Item) -> dict:
    carriers = {name: _carrier(item, name) for name in CARRIERS[task]}
    return {
        "trial": ":".join([task, *item.entities.values()]).replace(" ", "_"),
        "task": task,
        "condition": item.condition,
        "family": item.family,
        "held_out": item.held_out,
        "prompt": item.prompt,
        "content": item.content,
        "reference": item.answer,
        "fact": item.fact,
        "refusal": world.refusal(item.vocabulary),
        **{f"carrier_{name}": value for name, value in carriers.items()},
        **{f"class_{name}": _class(world, name, value) for name, value in carriers.items()},
    }


def _carrier(item: Item, name: str) -> str:
    if name == "problem":
        # a + b and b + a, and the subtraction that undoes them, share what has to be known.
        left, right = int(item.entities["left"]), int(item.entities["right"])
        parts = (left, right) if item.condition == "addition" else (left - right, right)
        return "+".join(str(part) for part in sorted(parts))
    return item.entities[name]


def _class(world: World, name: str, value: str) -> str:
    listed = {"place": world.sensitive_places, "year": world.sensitive_years}.get(name, ())
    return "sensitive" if value in listed else "null"
