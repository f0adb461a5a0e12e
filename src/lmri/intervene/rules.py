"""What the activity of units becomes in each mode: plain functions of arrays.

Every function gets the values of the units' plan, and of each piece of activity the row of the
values, a key of the trial and the position of the token; see :mod:`lmri.intervene.plans` for the
modes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

MASK = 0xFFFFFFFF
"""Of 32 bits."""


@dataclass(frozen=True)
class Place:
    """Where pieces of activity are.

    Attributes
    ----------
    row : Tensor of shape (...), int64
        Row of the values.
    keys : Tensor of shape (...), int64
        Number of the trial, the same in every batch and under every plan; not negative.
    positions : Tensor of shape (...), int64
        Position of the token in its text, from 0.
    layer : int
        The layer.
    """

    row: torch.Tensor
    keys: torch.Tensor
    positions: torch.Tensor
    layer: int


def as_set(values: torch.Tensor, at: Place, activity: torch.Tensor) -> torch.Tensor:
    """Set: one value at every token; values are (rows, 1, channels)."""
    return values[at.row, 0]


def scaled(values: torch.Tensor, at: Place, activity: torch.Tensor) -> torch.Tensor:
    """Multiply by a factor: values are (rows, 1, channels)."""
    return activity * values[at.row, 0]


def clamped(values: torch.Tensor, at: Place, activity: torch.Tensor) -> torch.Tensor:
    """Set the first tokens to values of their own, (rows, tokens, channels).

    One value is for every token; with more, tokens past the last one are left as they are.
    """
    tokens = values.shape[1]
    if tokens == 1:
        return values[at.row, 0]
    inside = (at.positions >= 0) & (at.positions < tokens)
    wanted = values[at.row, at.positions.clamp(0, tokens - 1)]
    return torch.where(inside.unsqueeze(-1), wanted, activity)


def resampled(values: torch.Tensor, at: Place, activity: torch.Tensor) -> torch.Tensor:
    """Set to the value at a token of another trial; values are (rows, donors, channels).

    A trial gets one donor, the same for all units and tokens of it.
    """
    return values[at.row, at.keys % values.shape[1]]


def adjusted(values: torch.Tensor, at: Place, activity: torch.Tensor) -> torch.Tensor:
    """Neuron Adjust: map what looks like the target to what it is in the retained trials.

    With the normal densities ``p_f = N(x; mu_f, s_f)`` of the target and ``p_r = N(x; mu_r, s_r)``
    of the retained trials and ``u`` uniform in [0, 1)::

        x <- mu_r - s_r (x - mu_f) / s_f    if p_r <= p_f and u >= p_r / (p_r + p_f)

    Values are (rows, 4, channels): ``mu_f``, ``s_f``, ``mu_r``, ``s_r``. ``u`` is drawn anew for
    every trial, token, layer and channel, and is the same in every batch.

    Source: Li et al. 2025, Effective skill unlearning (arXiv 2503.21730). The released code takes
    the variance for the standard deviation and one ``u`` for all tokens and neurons.
    """
    mean, deviation, kept, kept_deviation = values[at.row].unbind(-2)
    x = activity.to(values.dtype)
    # Logarithms, up to the same constant: densities far from both means are 0 as numbers.
    target = -((x - mean) / deviation).square() / 2 - deviation.log()
    retained = -((x - kept) / kept_deviation).square() / 2 - kept_deviation.log()
    share = torch.sigmoid(retained - target)  # p_r / (p_r + p_f)
    drawn = uniform(at, activity.shape[-1])
    mirrored = kept - kept_deviation * (x - mean) / deviation
    moved = (retained <= target) & (drawn >= share)
    return torch.where(moved, mirrored.to(activity.dtype), activity)


def uniform(at: Place, channels: int) -> torch.Tensor:
    """Draw numbers that depend on trial, token, layer and channel alone.

    Parameters
    ----------
    at : Place
        The tokens.
    channels : int
        Channels.

    Returns
    -------
    Tensor of shape (..., channels), float64
        Uniform in [0, 1).
    """
    channel = torch.arange(channels, device=at.keys.device)
    mixed = at.keys.unsqueeze(-1)
    for part in (at.positions.unsqueeze(-1), torch.full_like(channel[:1], at.layer), channel):
        mixed = _mixed(mixed * 0x9E3779B1 + part)
    return mixed.double() / (MASK + 1)


def _mixed(number: torch.Tensor) -> torch.Tensor:
    """Mix the lowest 32 bits (Wellons, Prospecting for hash functions, 2018)."""
    number = number & MASK
    number = number ^ (number >> 16)
    number = (number * 0x7FEB352D) & MASK
    number = number ^ (number >> 15)
    number = (number * 0x846CA68B) & MASK
    return number ^ (number >> 16)


Rule = Callable[[torch.Tensor, Place, torch.Tensor], torch.Tensor]
"""From values, places and activity to what the activity becomes where units are named."""

RULES: dict[str, Rule] = {
    "zero": as_set,
    "mean": as_set,
    "clamp": clamped,
    "resample": resampled,
    "flip": scaled,
    "gain": scaled,
    "adjust": adjusted,
}
"""By mode."""
