"""Entropy of attention: heads that collapse on few keys, heads that spread over all.

The entropy of a query that sees i keys is at most ln i, so heads are compared by the ratio of sums
``Σ_q Ent(A_q) / Σ_q ln i_q``: 0 attends to one key, 1 to all alike. ``without_first`` leaves out
the first token (and divides the other weights by their sum): an attention sink lowers the entropy
of a head without its being sharp elsewhere.

The lower bound of Zhai et al. 2023 says how sharp a head can be at all, given how large its logits
can be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from lmri.anatomy import ARCHITECTURES, Subject, phase_tokens
from lmri.checks import check_range
from lmri.errors import EvidenceError
from lmri.information.texts import chosen_rows, span_names
from lmri.store import Recording

MEASURES = {"all": "entropy", "without_first": "entropy_rest"}

COLLAPSED, OVERLOADED = 0.1, 0.9
"""Relative entropies below and above which a head is named: proposals, no published thresholds."""


def attention_entropy_map(
    recordings: Sequence[Recording],
    *,
    split: str | None = "selection",
    windows: Mapping[int, int] | None = None,
    collapsed: float = COLLAPSED,
    overloaded: float = OVERLOADED,
) -> xr.Dataset:
    """Map the entropy of every head in every phase.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task, with ``attention`` (pooled is enough).
    split : str, optional
        Trials; None takes all.
    windows : mapping of int to int, optional
        Keys that a layer with a sliding window sees at most, from :func:`sliding_windows`.
    collapsed, overloaded : float
        Relative entropies below and above which a head is named.

    Returns
    -------
    Dataset
        Over (measure, phase, layer, head), measures ``all`` and ``without_first``: ``entropy``,
        mean over queries in nat, and ``relative_entropy``, from 0 to 1; ``collapsed_share`` and
        ``overloaded_share`` over (measure, phase, layer), of heads. ``queries`` (phase). NaN in a
        phase whose queries see one key, or which has none.

    Raises
    ------
    EvidenceError
        If the recording lacks ``attention``, the split has no trial, or a threshold is not in
        [0, 1].
    """
    check_range(collapsed, "collapsed", "the attention entropy", 0, 1, EvidenceError)
    check_range(overloaded, "overloaded", "the attention entropy", 0, 1, EvidenceError)
    recordings = list(recordings)
    _check(recordings)
    first = recordings[0]
    layers = [int(layer) for layer in first.array("pooled/attention/layer")[:]]
    phases = [str(phase) for phase in first.array("pooled/attention/phase")[:]]
    limits = [(windows or {}).get(layer, np.inf) for layer in layers]
    sums, ceilings, queries = 0.0, 0.0, 0.0
    for recording in recordings:
        chosen = chosen_rows(recording.trials, split)
        if chosen.any():
            entropy, count = _sums(recording, chosen)
            sums, queries = sums + entropy, queries + count
            ceilings = ceilings + _ceilings(recording, chosen, phases, limits)
    if not np.any(queries):
        raise EvidenceError(
            f"Attention entropy must be of trials with tokens. The split '{split}' has none."
        )
    dims = ("measure", "phase", "layer", "head")
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums / queries[None, :, None, None]
        relative = np.where(ceilings[..., None] > 0, sums / ceilings[..., None], np.nan)
    shares = {
        f"{name}_share": (dims[:3], np.where(np.isnan(relative[..., 0]), np.nan, own.mean(-1)))
        for name, own in (
            ("collapsed", relative < collapsed),
            ("overloaded", relative > overloaded),
        )
    }
    return xr.Dataset(
        {
            "entropy": (dims, mean),
            "relative_entropy": (dims, relative),
            **shares,
            "queries": ("phase", queries.astype(np.int64)),
        },
        coords={"measure": list(MEASURES), "phase": phases, "layer": layers},
        attrs={"collapsed": collapsed, "overloaded": overloaded, "units": "nat"},
    )


def sliding_windows(subject: Subject) -> dict[int, int]:
    """Keys that the layers with a sliding window see at most, by layer.

    Parameters
    ----------
    subject : Subject
        The subject.

    Returns
    -------
    dict of int to int
        Empty where every layer sees all keys.
    """
    config = subject.model.config
    window = getattr(config, "sliding_window", None)
    if not window:
        return {}
    types = getattr(config, "layer_types", None)
    if types is None:
        used = getattr(config, "use_sliding_window", True)
        types = ["sliding_attention" if used else "full_attention"] * subject.anatomy.layers
    return {layer: int(window) for layer, kind in enumerate(types) if "sliding" in kind}


def entropy_bound(size: np.ndarray | float, keys: np.ndarray | int) -> np.ndarray:
    """Least entropy of a softmax over logits of a given norm.

    ``ln(1 + (T - 1) β) + σ √(T (T - 1)) β / (1 + (T - 1) β)`` with ``β = exp(-σ √(T / (T - 1)))``:
    the minimum over all logits z of T keys with ``||z||₂ <= σ``.

    Parameters
    ----------
    size : ndarray or float
        σ, such as from :func:`logit_size`; not negative.
    keys : ndarray or int
        T, keys that the query sees; at least 1.

    Returns
    -------
    ndarray
        In nats; 0 for a single key, ln T at σ = 0.

    Raises
    ------
    EvidenceError
        If σ is negative or T below 1.

    Notes
    -----
    Zhai et al. 2023, Stabilizing Transformer Training by Preventing Attention Entropy Collapse
    (arXiv:2303.06296).
    """
    size, keys = np.broadcast_arrays(np.asarray(size, float), np.asarray(keys, float))
    if not (size >= 0).all() or not (keys >= 1).all():
        raise EvidenceError(
            "The bound of the attention entropy must be of a 'size' of at least 0 and of at least "
            "1 of 'keys'."
        )
    others = np.maximum(keys - 1, 0)
    several = others > 0
    ratio = np.sqrt(keys / np.where(several, others, 1))
    small = np.exp(-size * ratio)
    bound = np.log1p(others * small)
    bound = bound + size * np.sqrt(keys * others) * small / (1 + others * small)
    return np.where(several, bound, 0.0)


def logit_size(queries: np.ndarray, keys: np.ndarray, states: np.ndarray) -> float:
    """Bound the norm of the attention logits of a head: ``||W_K W_Qᵀ||₂ ||X Xᵀ||₂ / √d_head``.

    Parameters
    ----------
    queries, keys : ndarray of shape (hidden, head_size)
        W_Q and W_K of a head. Rotary positions turn queries and keys by different angles: then
        give the bound of the norms instead, ``||W_Q||₂ ||W_K||₂``, by matrices of one column.
    states : ndarray of shape (n_tokens, hidden)
        What attention reads, after its normalisation.

    Returns
    -------
    float
        σ for :func:`entropy_bound`.

    Raises
    ------
    EvidenceError
        If the shapes do not fit.
    """
    queries, keys, states = (np.asarray(own, np.float64) for own in (queries, keys, states))
    if queries.shape != keys.shape or states.shape[-1] != len(queries):
        raise EvidenceError(
            "Matrices of queries and keys must have one shape (hidden, head_size), and the states "
            f"(tokens, hidden). Got {queries.shape}, {keys.shape} and {states.shape}."
        )
    weights = np.linalg.norm(keys @ queries.T, 2)
    return float(weights * np.linalg.norm(states, 2) ** 2 / np.sqrt(queries.shape[1]))


def _check(recordings: Sequence[Recording]) -> None:
    if not recordings:
        raise EvidenceError("There must be at least one recording to read. Got none.")
    for recording in recordings:
        if not recording.holds("pooled/attention/entropy"):
            raise EvidenceError(
                f"{recording.path}: the recording must hold 'pooled/attention/entropy'. It does "
                "not: add 'attention' to 'record.quantities' of the configuration and record again."
            )


def _sums(recording: Recording, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over queries (measure, phase, layer, head), and numbers of queries (phase,)."""
    names = [str(name) for name in recording.array("pooled/attention/statistic")[:]]
    total, count = names.index("sum"), names.index("count")
    sums, queries, start = 0.0, 0.0, 0
    arrays = [f"pooled/attention/{name}" for name in MEASURES.values()]
    for chunk in recording.stream(*arrays):
        own = chosen[start : start + len(chunk[0])]
        start += len(own)
        if own.any():
            parts = [part[own][:, :, total].sum(0, dtype=np.float64) for part in chunk]
            sums = sums + np.stack(parts)
            queries = queries + chunk[0][own][:, :, count, 0, 0].sum(0, dtype=np.float64)
    return sums, queries


def _ceilings(
    recording: Recording, chosen: np.ndarray, phases: Sequence[str], limits: Sequence[float]
) -> np.ndarray:
    """Sums of ``ln i`` over the queries of each phase: (measure, phase, layer)."""
    lengths = recording.trials["n_prompt"] + recording.trials["n_response"]
    lengths = lengths.to_numpy()
    encoder = ARCHITECTURES[recording.attributes["architecture"]].encoder
    found = np.zeros((len(MEASURES), len(phases), len(limits)))
    names = [f"tokens/index/{name}" for name in ("trial", "position", "phase")]
    spans = span_names([recording])
    for trial, position, span in recording.stream(*names):
        kept = chosen[trial]
        trial, position, span = trial[kept], position[kept].astype(np.int64), span[kept]
        index = {"trial": trial, "position": position, "phase": span, "spans": spans}
        inside = [phase_tokens(recording.trials, index, name) for name in phases]
        seen = lengths[trial] if encoder else position + 1
        for layer, limit in enumerate(limits):
            visible = np.minimum(seen, limit)
            # A query whose window has passed the first token loses none by leaving it out.
            first = encoder | (position < limit)
            each = np.log(visible), np.log(np.maximum(visible - first, 1))
            for phase, own in enumerate(inside):
                found[:, phase, layer] += [ceiling[own].sum() for ceiling in each]
    return found
