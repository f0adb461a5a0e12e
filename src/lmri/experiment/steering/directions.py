"""Directions of the residual that are steered along, and others of the same length beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest

import numpy as np
import pandas as pd
import torch

from lmri.experiment.measuring import prompts_of, random_of
from lmri.experiment.outcome import Ground
from lmri.intervene import (
    INTACT,
    Plan,
    control_vector,
    entropy_weighted,
    last_states,
    mean_difference,
    next_token_distributions,
    steering_plan,
)
from lmri.score import carrier_columns

PHASE = "prompt_last"
"""The token that is steered: it decides how the response begins."""


@dataclass(frozen=True)
class Sides:
    """States of both sides of a contrast at the last token of the prompt.

    Attributes
    ----------
    target, control : ndarray of shape (n_trials, layers, hidden), float32
        States of the intact subject on selection trials.
    entropies : ndarray of shape (n_target + n_control,), float64
        Of its next token, target first, in nats.
    carriers : DataFrame
        Carriers of the control trials.
    """

    target: np.ndarray
    control: np.ndarray
    entropies: np.ndarray
    carriers: pd.DataFrame

    @property
    def uncertainty(self) -> float:
        """Mean entropy of the side that is less certain, in nats."""
        target, control = np.split(self.entropies, [len(self.target)])
        return float(max(target.mean(), control.mean()))


def sides_of(ground: Ground, target: pd.DataFrame, control: pd.DataFrame) -> Sides:
    """Read the states that vectors are made of.

    Parameters
    ----------
    ground : Ground
        With the subject.
    target, control : DataFrame
        Selection trials.

    Returns
    -------
    Sides
        Their states.
    """
    prompts = [prompts_of(ground, trials) for trials in (target, control)]
    states = [last_states(ground.subject, own, ground.rows) for own in prompts]
    (entropies,) = entropies_under(ground, prompts[0] + prompts[1], [INTACT])
    return Sides(*states, entropies, carrier_columns(control))


def vector_of(ground: Ground, sides: Sides, name: str) -> np.ndarray:
    """Make a vector of every layer.

    Parameters
    ----------
    ground : Ground
        With the seed.
    sides : Sides
        States of selection trials.
    name : str
        ``mean_difference``; ``control_vector``, of pairs drawn at random; ``entropy_weighted``,
        of both sides together and as long as the mean difference in each layer.

    Returns
    -------
    ndarray of shape (layers, hidden), float64
        The vectors.
    """
    difference = mean_difference(sides.target, sides.control)
    if name == "mean_difference":
        return difference
    if name == "control_vector":
        rng = random_of(ground, "steering", "pairs")
        pairs = min(len(sides.target), len(sides.control))
        chosen = [rng.permutation(len(own))[:pairs] for own in (sides.target, sides.control)]
        return control_vector(sides.target[chosen[0]], sides.control[chosen[1]])
    uncertain = entropy_weighted(np.concatenate([sides.target, sides.control]), sides.entropies)
    lengths = [np.linalg.norm(own, axis=1, keepdims=True) for own in (difference, uncertain)]
    return uncertain * lengths[0] / np.maximum(lengths[1], np.finfo(float).tiny)


def random_directions(ground: Ground, length: float, draws: int, name: str) -> np.ndarray:
    """Directions drawn from all alike.

    Parameters
    ----------
    ground : Ground
        With the seed and the width of the residual.
    length : float
        Of every direction.
    draws : int
        How many.
    name : str
        What they stand beside: other directions for others.

    Returns
    -------
    ndarray of shape (n_draws, hidden), float64
        The directions.
    """
    rng = random_of(ground, "steering", "random", name)
    return _as_long(rng.normal(size=(draws, ground.subject.anatomy.hidden)), length)


def sham_directions(
    ground: Ground, sides: Sides, layer: int, length: float, draws: int, name: str
) -> np.ndarray:
    """Mean differences between random halves of the carriers of the control condition.

    They lie where states differ from each other, as random directions do not, and stand for
    nothing that the contrast is about.

    Parameters
    ----------
    ground : Ground
        With the seed.
    sides : Sides
        States of selection trials.
    layer : int
        The layer.
    length, draws, name : float, int, str
        As for :func:`random_directions`.

    Returns
    -------
    ndarray of shape (n_halves, hidden), float64
        The directions: of distinct halves, and fewer than ``draws`` where no more exist.
    """
    rng = random_of(ground, "steering", "sham", name)
    states = sides.control[:, layer].astype(np.float64)
    found = [
        states[half].mean(axis=0) - states[~half].mean(axis=0)
        for half in islice(_halves(sides.carriers, rng), draws)
    ]
    return _as_long(np.array(found).reshape(-1, states.shape[1]), length)


def _halves(carriers: pd.DataFrame, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Split trials by half of the values of a carrier, each carrier in turn: no split twice."""
    codes = (pd.factorize(carriers[own])[0] for own in carriers.columns)
    streams = [_halves_of(own, rng) for own in codes]
    seen = set()
    # Carriers that go together give the same splits.
    for half in chain.from_iterable(zip_longest(*streams)):
        if half is not None and (key := half.tobytes()) not in seen:
            seen.add(key)
            yield half


def _halves_of(codes: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """All splits by half of the values of one carrier, in a random order."""
    values = int(codes.max()) + 1
    if values < 2:
        return
    left, seen = math.comb(values, values // 2), set()
    while left:
        half = frozenset(rng.permutation(values)[: values // 2].tolist())
        if half not in seen:
            seen.add(half)
            left -= 1
            yield np.isin(codes, list(half))


def plan_along(ground: Ground, layer: int, vector: np.ndarray, scale: float = 1.0) -> Plan:
    """Plan that adds a scaled vector after a layer at the last token of the prompt."""
    return steering_plan(ground.subject.anatomy, {layer: vector}, scale, phase=PHASE)


@torch.inference_mode()
def entropies_under(
    ground: Ground, prompts: Sequence[Sequence[int]], plans: Sequence[Plan]
) -> np.ndarray:
    """Entropy of the next token under every plan.

    Parameters
    ----------
    ground : Ground
        With the subject.
    prompts : sequence of sequence of int
        Token ids.
    plans : sequence of Plan
        The plans.

    Returns
    -------
    ndarray of shape (n_plans, n_prompts), float64
        In nats.
    """
    found = np.empty(len(plans) * len(prompts))
    batches = next_token_distributions(
        ground.subject,
        list(prompts) * len(plans),
        plans=plans,
        plan_of_row=np.repeat(np.arange(len(plans)), len(prompts)),
        rows=ground.rows,
    )
    for rows, logs in batches:
        found[rows] = torch.special.entr(logs.exp()).sum(-1).numpy()
    return found.reshape(len(plans), len(prompts))


def _as_long(directions: np.ndarray, length: float) -> np.ndarray:
    return directions * length / np.linalg.norm(directions, axis=1, keepdims=True)
