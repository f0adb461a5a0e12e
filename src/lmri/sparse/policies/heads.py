"""Policies on attention heads: which keep their cache, which write at all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lmri.errors import SparseError
from lmri.sparse.calibration import Activity
from lmri.sparse.calibration.achieved import key_heads
from lmri.sparse.policies.draft import Draft, Runs
from lmri.sparse.rules import CacheHeads, KeptHeads
from lmri.store import Recording

RAZOR = {"duplicate": 0.01, "induction": 0.14}
"""Shares of heads that RazorAttention protects: those that look at earlier copies of a token
(echo), and at what followed them."""


@dataclass(frozen=True)
class CacheHeadsOptions:
    """Options of :func:`cache_heads`; exactly one of ``heads`` and ``scores``.

    Attributes
    ----------
    heads : sequence of (int, int) or None
        (layer, head) of the heads that keep everything, of queries.
    scores : mapping of str to sequence of shape (layers, heads), or None
        Scores of heads by their name, see :func:`head_scores`.
    shares : mapping of str to float
        Share of all heads that is protected by each score, in (0, 1].
    random_seed : int or None
        Draw as many heads of keys and values at random instead, by this seed: the control at equal
        cache.
    sinks, window, compensation
        As of :class:`lmri.sparse.rules.CacheHeads`.
    """

    heads: Sequence[Sequence[int]] | None = None
    scores: Mapping[str, Sequence[Sequence[float]]] | None = field(default=None, repr=False)
    shares: Mapping[str, float] = field(default_factory=lambda: dict(RAZOR))
    random_seed: int | None = None
    sinks: int = 4
    window: int = 64
    compensation: bool = True

    def __post_init__(self) -> None:
        if (self.heads is None) == (self.scores is None):
            raise SparseError(
                "The policy 'cache_heads' needs either 'heads' or 'scores'. Got "
                f"{'none' if self.heads is None else 'both'}: give the heads of a map, or record "
                "'attention' and give its scores."
            )
        for name in self.scores or ():
            if not 0 < self.shares.get(name, 0) <= 1:
                raise SparseError(
                    "The 'shares' of the policy 'cache_heads' must be in (0, 1], one for each of "
                    f"its 'scores'. Got {self.shares.get(name)} for '{name}'."
                )


def cache_heads(activity: Activity, options: CacheHeadsOptions, runs: Runs) -> Draft:
    """Keep all keys and values for some heads only, and sinks and a window for the others.

    Heads that share keys and values keep them all if one of them is protected.

    Parameters
    ----------
    activity : Activity
        Of the calibration; its texts tell how much of a cache is dropped.
    options : CacheHeadsOptions
        What is asked for.
    runs : Runs
        Not used.

    Returns
    -------
    Draft
        One `CacheHeads` for each layer; ``found`` has the number of heads that keep everything.

    Raises
    ------
    SparseError
        If the subject has no cache, or no such heads.

    References
    ----------
    Tang et al. 2024, RazorAttention: efficient KV cache compression through retrieval heads,
    arXiv:2407.15891.
    """
    anatomy = activity.subject.anatomy
    if not caches_heads(activity):
        raise SparseError(
            "The policy 'cache_heads' needs a subject that caches the keys and values of heads. "
            f"Got '{activity.subject.name}' ({anatomy.architecture}), which does not: it is an "
            "encoder, or caches one latent for all heads."
        )
    counts = {layer: key_heads(activity, layer) for layer in range(anatomy.layers)}
    protected = (
        options.heads if options.scores is None else _best(options, anatomy.layers, anatomy.heads)
    )
    _check_heads(protected, anatomy.layers, anatomy.heads, "cache_heads")
    kept = {(layer, head * counts[layer] // anatomy.heads) for layer, head in protected}
    if options.random_seed is not None:
        every = [(layer, head) for layer, count in counts.items() for head in range(count)]
        rng = np.random.default_rng([options.random_seed, 18])
        kept = {every[i] for i in rng.choice(len(every), len(kept), replace=False)}
    draft = Draft(found={"heads": len(kept), "of_heads": sum(counts.values())})
    for layer in range(anatomy.layers):
        heads = tuple(sorted(head for own, head in kept if own == layer))
        draft.add(CacheHeads(layer, heads, options.sinks, options.window, options.compensation))
    return draft


def caches_heads(activity: Activity) -> bool:
    """Tell whether a subject caches keys and values of heads: no encoder, no latent of all heads.

    Parameters
    ----------
    activity : Activity
        Of the subject.

    Returns
    -------
    bool
        Whether :func:`cache_heads` can be calibrated for it.
    """
    return not activity.subject.anatomy.encoder and "key" in activity.linears[0]


def head_scores(recordings: Iterable[Recording], name: str) -> np.ndarray:
    """Mean of an attention summary over all tokens of the calibration split.

    Parameters
    ----------
    recordings : iterable of Recording
        Of one subject, with the quantity ``attention``.
    name : str
        One of :data:`lmri.anatomy.ATTENTION_SUMMARIES`: ``induction``, or ``duplicate`` for echo.

    Returns
    -------
    ndarray of shape (layers, heads), float64
        Scores.

    Raises
    ------
    SparseError
        If no token of the calibration split was recorded.
    """
    total, tokens = 0.0, 0.0
    for recording in recordings:
        values = recording.array(f"pooled/attention/{name}")
        phases = list(recording.array("pooled/attention/phase")[:])
        statistics = list(recording.array("pooled/attention/statistic")[:])
        spans = [i for i, phase in enumerate(phases) if phase in recording.attributes["spans"]]
        rows = np.flatnonzero(recording.trials["split"].to_numpy() == "calibration")
        for row in rows:
            own = values[int(row)][spans].astype(np.float64)  # (spans, statistic, layer, head)
            total = total + own[:, statistics.index("sum")].sum(axis=0)
            tokens = tokens + own[:, statistics.index("count")].sum(axis=0)
    if not np.any(tokens):
        raise SparseError(
            f"The scores '{name}' of heads need recorded tokens of the split 'calibration'. Found "
            "none."
        )
    return total / np.maximum(tokens, 1.0)


@dataclass(frozen=True)
class KeepHeadsOptions:
    """Options of :func:`keep_heads`.

    Attributes
    ----------
    heads : sequence of (int, int)
        (layer, head) of the heads that write.
    """

    heads: Sequence[Sequence[int]]


def keep_heads(activity: Activity, options: KeepHeadsOptions, runs: Runs) -> Draft:
    """Let only some heads write.

    Parameters
    ----------
    activity : Activity
        Of the calibration; the rules need none of it.
    options : KeepHeadsOptions
        What is asked for.
    runs : Runs
        Not used.

    Returns
    -------
    Draft
        One `KeptHeads` for each layer.

    Raises
    ------
    SparseError
        If the subject has no such heads.
    """
    anatomy = activity.subject.anatomy
    _check_heads(options.heads, anatomy.layers, anatomy.heads, "keep_heads")
    draft = Draft()
    for layer in range(anatomy.layers):
        own = {head for where, head in options.heads if where == layer}
        draft.add(KeptHeads(layer, tuple(sorted(own))))
    return draft


def _best(options: CacheHeadsOptions, layers: int, heads: int) -> list[tuple[int, int]]:
    found = set()
    for name, values in options.scores.items():
        scores = np.asarray(values, dtype=np.float64)
        if scores.shape != (layers, heads) or not np.isfinite(scores).all():
            raise SparseError(
                f"The scores '{name}' of the policy 'cache_heads' must be finite, of shape "
                f"({layers}, {heads}). Got {scores.shape}."
            )
        count = math.ceil(options.shares[name] * scores.size - 1e-9)
        # Stable: of equal scores the first heads.
        order = np.argsort(-scores, axis=None, kind="stable")[:count]
        found |= {(int(i) // heads, int(i) % heads) for i in order}
    return sorted(found)


def _check_heads(units: Sequence[Sequence[int]], layers: int, heads: int, policy: str) -> None:
    for unit in units:
        if len(unit) != 2 or not (0 <= unit[0] < layers and 0 <= unit[1] < heads):
            raise SparseError(
                f"The 'heads' of the policy '{policy}' must be (layer, head), layers 0 to "
                f"{layers - 1}, heads 0 to {heads - 1}. Got {tuple(unit)}."
            )
