"""Representation is not use: what a band explains, beside what its subspace does for the output.

The weights ``W_b`` of a band on the dimensions of the residual after a block predict states within
the span of the leading eigenvectors of ``W_b' cov(X_b) W_b``. That subspace is ablated at the last
prompt token of trials that the fit has not seen, and the output compared with the intact one. Any
subspace of that much variance changes the output somewhat, so random ones of the same rank and the
same share of variance are ablated beside it. Output is the distribution of every token of the
recorded response: the first token alone is often the same whatever was asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from lmri.anatomy import Subject
from lmri.encode.moments import Trained
from lmri.errors import EvidenceError
from lmri.intervene import ablated_subspace
from lmri.store import Recording

KEPT = 0.95
"""Share of what a band predicts that its subspace holds."""

MOST_RANK = 8
"""Dimensions of a subspace, at most."""

POWERS = (-3.0, 5.0)
"""Powers of the covariance between which a random subspace of a given variance is looked for."""

HALVINGS = 40

MOST_RESPONSE = 8
"""Tokens of a response whose probabilities are compared."""

ROWS = 64
"""Rows of a forward pass, at most."""


@dataclass(frozen=True)
class Subspace:
    """Directions of the residual in which a band predicts states.

    Attributes
    ----------
    basis : ndarray of shape (hidden, rank), float64
        Orthonormal columns.
    predicted : float
        Share of the residual's variance that the band predicts.
    share : float
        Share of the residual's variance within the subspace.
    """

    basis: np.ndarray
    predicted: float
    share: float


def band_subspace(
    trained: Trained, weights: np.ndarray, band: slice, covariance: np.ndarray
) -> Subspace | None:
    """Find the subspace of a band.

    Parameters
    ----------
    trained : Trained
        Sums of the training cells.
    weights : ndarray of shape (n_features, hidden)
        Weights of the standardised features on the dimensions of one layer.
    band : slice
        Columns of the band.
    covariance : ndarray of shape (hidden, hidden)
        Of the residual, over the same rows.

    Returns
    -------
    Subspace or None
        None where the band predicts nothing.
    """
    own = weights[band]
    predicted = own.T @ (trained.xx[band, band] / trained.n) @ own
    values, vectors = np.linalg.eigh(predicted)
    values = np.clip(values[::-1], 0, None)
    if values.sum() <= 1e-12 * np.trace(covariance):
        return None
    most = min(MOST_RANK, own.shape[0])
    rank = min(int(np.searchsorted(np.cumsum(values), KEPT * values.sum())) + 1, most)
    basis = np.ascontiguousarray(vectors[:, ::-1][:, :rank])
    total = np.trace(covariance)
    return Subspace(basis, float(values.sum() / total), share_of(covariance, basis))


def share_of(covariance: np.ndarray, basis: np.ndarray) -> float:
    """Share of the variance within a subspace: ``tr(B' Σ B) / tr Σ``."""
    return float(np.einsum("ir,ij,jr->", basis, covariance, basis) / np.trace(covariance))


def matched_subspace(
    covariance: np.ndarray, rank: int, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a random subspace that holds a given share of the variance.

    A Gaussian matrix times a power of the covariance spans what holds little variance where the
    power is low, and much where it is high; the power is found by halving.

    Parameters
    ----------
    covariance : ndarray of shape (hidden, hidden)
        Of the residual.
    rank : int
        Dimensions.
    share : float
        Share of the variance; the nearest that can be had is taken.
    rng : numpy.random.Generator
        Source of the draw.

    Returns
    -------
    ndarray of shape (hidden, rank), float64
        Orthonormal columns.
    """
    values, vectors = np.linalg.eigh(covariance)
    values = np.clip(values / values.max(), 1e-9, None)
    drawn = rng.normal(size=(len(values), rank))
    low, high = POWERS
    for _ in range(HALVINGS):
        power = (low + high) / 2
        basis = np.linalg.qr(values[:, None] ** power * drawn)[0]
        held = (values[:, None] * basis**2).sum() / values.sum()
        low, high = (power, high) if held < share else (low, power)
    return vectors @ basis


@dataclass(frozen=True)
class Text:
    """A recorded trial: its prompt and what the intact subject responded.

    Attributes
    ----------
    ids : ndarray of int64
        Tokens.
    n_prompt : int
        Tokens of the prompt.
    """

    ids: np.ndarray
    n_prompt: int


def recorded_texts(recordings: Sequence[Recording], split: str, most: int) -> list[Text]:
    """Read trials of a split from recordings.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task.
    split : str
        The split.
    most : int
        Trials, evenly spaced among all.

    Returns
    -------
    list of Text
        With at most :data:`MOST_RESPONSE` tokens of each response; empty if the split was not
        recorded.
    """
    chosen, first = [], 0
    for recording in recordings:
        table = recording.trials
        kept = table["split"] == split
        if "repeat" in table:
            kept &= table["repeat"] == 0
        chosen += [first + int(row) for row in np.flatnonzero(kept)]
        first += len(table)
    spaced = np.linspace(0, len(chosen) - 1, min(most, len(chosen))).round().astype(int)
    wanted = {chosen[place] for place in spaced}
    found, first = [], 0
    for recording in recordings:
        n_prompt = recording.trials["n_prompt"].to_numpy()
        own = {row - first for row in wanted if 0 <= row - first < len(n_prompt)}
        parts: dict[int, list[np.ndarray]] = {row: [] for row in sorted(own)}
        names = [f"tokens/index/{name}" for name in ("trial", "position", "token_id")]
        for trial, position, token_id in recording.stream(*names):
            near = position < n_prompt[trial] + MOST_RESPONSE
            for row in own & set(trial[near].tolist()):
                parts[row].append(token_id[near & (trial == row)])
        found += [
            Text(np.concatenate(ids).astype(np.int64), int(n_prompt[row]))
            for row, ids in parts.items()
            if ids
        ]
        first += len(n_prompt)
    return found


@torch.inference_mode()
def next_tokens(
    subject: Subject,
    texts: Sequence[Text],
    layer: int = 0,
    basis: np.ndarray | None = None,
    origin: np.ndarray | None = None,
) -> list[torch.Tensor]:
    """Log probabilities of every token of the recorded responses, and of what follows them.

    Parameters
    ----------
    subject : Subject
        The subject.
    texts : sequence of Text
        Trials; responses are given, not generated.
    layer : int
        Block whose output is changed.
    basis : ndarray of shape (hidden, rank), optional
        Subspace that is ablated at the last prompt token; by default none.
    origin : ndarray of shape (hidden,), optional
        State that it is set to.

    Returns
    -------
    list of Tensor of shape (n_response + 1, n_vocabulary), float32
        One for each text.

    Raises
    ------
    EvidenceError
        If there is no text.
    """
    if not texts:
        raise EvidenceError("The output must be of at least one recorded trial. Got none.")
    found: dict[int, torch.Tensor] = {}
    for rows, after in _batches(texts):
        without: AbstractContextManager = nullcontext()
        if basis is not None:
            own, start = (torch.tensor(part, dtype=torch.float32) for part in (basis, origin))
            without = ablated_subspace(subject, layer, own, start, place=-1 - after)
        ids = torch.tensor(np.stack([texts[row].ids for row in rows]), device=subject.device)
        with without:
            logits = subject.model(input_ids=ids, use_cache=False, logits_to_keep=after + 1).logits
        found |= zip(rows, logits.float().log_softmax(dim=-1).cpu(), strict=True)
    return [found[row] for row in range(len(texts))]


def output_effect(
    intact: Sequence[torch.Tensor], ablated: Sequence[torch.Tensor]
) -> dict[str, float]:
    """Compare the output without a subspace with the intact one.

    Parameters
    ----------
    intact, ablated : sequence of Tensor of shape (n_response + 1, n_vocabulary)
        Of every trial, see :func:`next_tokens`.

    Returns
    -------
    dict of str to float
        ``divergence``: KL(intact || ablated) per token of the response, in nat, averaged over a
        trial and then over trials; ``changed``: share of trials in which the likeliest token
        is another one somewhere.
    """
    divergence, changed = [], []
    for own, other in zip(intact, ablated, strict=True):
        divergence.append(float((own.exp() * (own - other)).sum(dim=-1).mean()))
        changed.append(bool((own.argmax(dim=-1) != other.argmax(dim=-1)).any()))
    return {"divergence": float(np.mean(divergence)), "changed": float(np.mean(changed))}


def _batches(texts: Sequence[Text]) -> Iterator[tuple[list[int], int]]:
    """Rows of one length and one prompt length, and the number of tokens after the prompt."""
    alike: dict[tuple[int, int], list[int]] = {}
    for row, text in enumerate(texts):
        alike.setdefault((len(text.ids), text.n_prompt), []).append(row)
    for (length, n_prompt), rows in sorted(alike.items()):
        for start in range(0, len(rows), ROWS):
            yield rows[start : start + ROWS], length - n_prompt
