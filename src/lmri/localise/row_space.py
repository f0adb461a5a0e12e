"""Whether units that are directions act through what reads them, or open a dormant path.

A feature of a dictionary and a dimension of the residual are directions in a state. The directions
of a finding are taken apart by the weights that read the state: their part in the row space of the
weights, and their part in the null space, which nothing reads. Setting the state along either to
its mean tells which of them carries the effect (:mod:`lmri.intervene.row_space`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import numpy as np
import pandas as pd
import torch

from lmri.anatomy import Subject, encode
from lmri.intervene import (
    LEAST_KEPT,
    Unit,
    changed_state,
    mean_activity,
    read_out,
    respond,
    split_directions,
)
from lmri.localise.endpoint import ROWS, trial_prompts

DIRECTIONS = ("feature", "residual")
"""Kinds whose units are directions of a state."""

LEAST_EFFECT = 0.1
"""Fall of the onset margin, in logits, below which there is no effect to take apart."""

Directions = Mapping[int, np.ndarray]
"""By layer: orthonormal directions, (n_directions, hidden)."""


def row_space_of(
    subject: Subject,
    kind: str,
    units: Sequence[Unit],
    targets: pd.DataFrame,
    controls: pd.DataFrame,
    score: str,
    max_new_tokens: int,
) -> dict:
    """Take the directions of a finding apart and compare the effects of their parts.

    With orthonormal directions V of a layer the state becomes ``h + V^T V (c - h)`` at every token,
    ``c`` its mean over tokens of the controls; the effect is by how much the margin of the first
    token of the behaviour falls. Then the same with the orthonormal row-space and null-space parts
    of V.

    Parameters
    ----------
    subject : Subject
        The subject.
    kind : str
        One of :data:`DIRECTIONS`.
    units : sequence of tuple of int
        The units that are switched off together.
    targets : DataFrame
        Calibration trials of the target.
    controls : DataFrame
        Selection trials of the controls.
    score : str
        Score of the endpoint; ``refusal_onset`` and the like watch the first token of the refusal,
        others that of the reference.
    max_new_tokens : int
        Limit of the responses.

    Returns
    -------
    dict
        ``width``; ``rank`` of the read-out, the smallest of any layer; ``row_norm`` and
        ``null_norm``, lengths of the parts of directions of length 1 (root mean square);
        ``effect``, ``row_effect``, ``null_effect`` in logits; ``kept``, row_effect over effect, and
        ``illusory``, whether less than half is kept; both None where the effect is below
        :data:`LEAST_EFFECT`.
    """
    place = subject.dictionary.place if kind == "feature" else "after"
    whole, row, null, ranks, share = {}, {}, {}, [], []
    for layer in sorted({layer for layer, _ in units}):
        own = [unit for layer_, unit in units if layer_ == layer]
        basis = read_out(subject, layer, place)
        parts = split_directions(_directions(subject, kind, own), basis)
        whole[layer], row[layer], null[layer] = parts
        ranks.append(len(basis))
        share += list(np.square(whole[layer] @ basis.T).sum(1))
    prompts = trial_prompts(subject, targets, max_new_tokens)
    watched = _watched_tokens(subject, targets, score)
    means = _means(subject, trial_prompts(subject, controls, max_new_tokens), list(whole), place)

    def margin(directions: Directions) -> float:
        with ExitStack() as stack:
            for layer, own in directions.items():
                if len(own):
                    change = _set_along(own, means[layer])
                    stack.enter_context(changed_state(subject.model, layer, place, change))
            found = respond(subject, prompts, watched, max_new_tokens=1, rows=ROWS)
        return float(found.onset_margin.astype(np.float64).mean())

    intact = margin({})
    effect, row_effect, null_effect = (
        intact - margin(part) if any(map(len, part.values())) else 0.0
        for part in (whole, row, null)
    )
    told = effect >= LEAST_EFFECT
    kept = row_effect / effect if told else None
    return {
        "width": subject.anatomy.hidden,
        "rank": min(ranks),
        "row_norm": float(np.sqrt(np.mean(share))),
        "null_norm": float(np.sqrt(max(0.0, 1 - np.mean(share)))),
        "effect": effect,
        "row_effect": row_effect,
        "null_effect": null_effect,
        "kept": kept,
        "illusory": kept < LEAST_KEPT if told else None,
    }


def _directions(subject: Subject, kind: str, own: Sequence[int]) -> np.ndarray:
    if kind == "feature":
        return subject.dictionary.decoder[list(own)].double().cpu().numpy()
    return np.eye(subject.anatomy.hidden)[list(own)]


def _set_along(
    directions: np.ndarray, mean: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    basis = torch.from_numpy(directions)

    def change(state: torch.Tensor) -> torch.Tensor:
        own, wanted = basis.to(state), mean.to(state)
        return state + ((wanted - state) @ own.T) @ own

    return change


def _means(
    subject: Subject, prompts: Sequence[Sequence[int]], layers: Sequence[int], place: str
) -> dict[int, torch.Tensor]:
    """Mean state over all tokens of prompts."""
    number = subject.anatomy.places.index(place)
    found = mean_activity(subject, prompts, "residual_site", ROWS)
    return {layer: torch.from_numpy(found[layer][number]) for layer in layers}


def _watched_tokens(subject: Subject, trials: pd.DataFrame, score: str) -> list[int]:
    column = "refusal" if score.startswith("refusal") else "reference"
    return [
        encode(subject.tokenizer, text, f"'{column}'")[0]
        if text
        else subject.tokenizer.eos_token_id
        for text in trials[column]
    ]
