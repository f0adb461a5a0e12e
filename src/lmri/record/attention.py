"""Attention, observed: summaries of its weights without keeping token × token matrices.

transformers calls one attention function in every architecture. It is wrapped: the subject's own
function runs and its output is passed on untouched, then the weights are computed again from the
same queries and keys, some queries at a time, and reduced at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import torch
from torch import nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lmri.anatomy import ATTENTION_SUMMARIES, attention_function, attentions
from lmri.errors import SubjectError
from lmri.record.reductions import load_reductions, norms, reads
from lmri.record.repeats import Repeats

PREFIX = "lmri_"

OBSERVED = ("sdpa", "eager")
"""Implementations whose masks are understood here."""

WEIGHTS_AT_ONCE = 393_216
"""Attention weights held at a time: 1.5 MB in float32, which stays in a processor's cache."""

WEIGHTS_ON_DEVICE = 67_108_864
"""The same on other devices, 256 MB: few large steps are faster there."""

QUERIES_AT_ONCE = 32
"""Queries at a time on a processor: keys that come after all of them are left out."""

HIDDEN = -1e30
"""Added to the score of a key that cannot be seen: its weight is 0, and 0 times it is not NaN."""


@dataclass(frozen=True)
class Attention:
    """What one layer's attention function was called with.

    Attributes
    ----------
    query : Tensor of shape (batch, heads, tokens, key_size)
        Queries.
    key : Tensor of shape (batch, key_heads, n_keys, key_size)
        Keys, those of tokens in a cache first; each serves ``heads / key_heads`` heads.
    value : Tensor of shape (batch, key_heads, tokens, value_size)
        Values.
    mask : Tensor of shape (batch, 1, tokens, tokens) or None
        Added to the scores, or True where a key may be seen; None sees all, or all before it.
    causal : bool
        Whether None sees only what is before.
    scaling : float
        Factor of the scores.
    softcap : float or None
        Scores s become ``softcap * tanh(s / softcap)``.
    sinks : Tensor of shape (heads,) or None
        Learned scores that take part in the softmax and belong to no token.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None
    causal: bool
    scaling: float
    softcap: float | None
    sinks: torch.Tensor | None


Observer = Callable[[Attention], None]


@contextmanager
def observed_attention(model: nn.Module, observe: Callable[[int, Attention], None]) -> Iterator:
    """Call ``observe(layer, attention)`` after every attention function.

    Parameters
    ----------
    model : torch.nn.Module
        Language model of transformers.
    observe : callable
        Must not change what it gets.

    Raises
    ------
    SubjectError
        If the model's attention is of another implementation.
    """
    before = model.config._attn_implementation
    if before not in OBSERVED:
        raise SubjectError(
            "The 'attention' of a subject must be one of 'sdpa', 'eager' where 'head' or "
            f"'attention' are recorded: others say otherwise what a token sees. Got '{before}'."
        )
    name = PREFIX + before
    ALL_ATTENTION_FUNCTIONS.register(name, partial(_run_and_observe, before))
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[before])
    modules = attentions(model)
    for layer, module in modules.items():
        module.lmri_observer = partial(observe, layer)
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        for module in modules.values():
            del module.lmri_observer


def summarise(
    attention: Attention, found: Repeats, *, received: bool = False
) -> dict[str, torch.Tensor]:
    """Summarise the attention weights of every query.

    With weights ``a_j`` over the keys j of a query q: ``entropy = -Σ a_j log a_j`` in nats;
    ``entropy_rest`` the same without the first token, weights divided by their sum (0 where
    nothing is left); ``sink = a_0``; ``previous = a_{q-1}``; ``duplicate`` the weight of earlier
    occurrences of the query's token and ``induction`` that of the tokens after these; ``retrieval``
    1 if the key with the largest weight lies in the content and is the token that follows the
    query (Wu et al. 2024, arXiv:2404.15574, where the content is the needle), else 0. Scores
    that belong to no token (learned sinks) take their share, so weights may sum to less than 1.

    On request ``received``, of every key k of T tokens: ``1 / (T - k) Σ_{q ≥ k} a_{q,k}`` with k
    from 0, the mean over the queries that may see it: the sink metric of Gu et al. 2024
    (arXiv:2410.10781). An encoder's keys are seen by all T. A window counts as seeing nothing.

    Parameters
    ----------
    attention : Attention
        Of one layer.
    found : Repeats
        Of the batch.
    received : bool
        Whether to sum up what every key receives too: all its queries must be there.

    Returns
    -------
    dict of str to Tensor
        Each (batch, tokens, heads), float32.
    """
    batch, heads, tokens, _ = attention.query.shape
    if not received and (whole := _summarise_at_once(attention, found)) is not None:
        return whole
    summaries = attention.query.new_empty(
        (batch, tokens, len(ATTENTION_SUMMARIES), heads), dtype=torch.float32
    )
    # Copied once here, or by every product below.
    attention = replace(
        attention, query=attention.query.contiguous(), key=attention.key.contiguous()
    )
    columns = summaries.new_zeros((batch, heads, tokens)) if received else None
    for rows, queries in _blocks(attention):
        block = torch.stack(_summarise_block(attention, found, rows, queries, columns))
        summaries[rows, queries] = block.permute(1, 3, 0, 2)
    result = dict(zip(ATTENTION_SUMMARIES, summaries.unbind(2), strict=True))
    if columns is not None:
        result["received"] = columns.transpose(1, 2) / _seen_by(attention, found)
    return result


def value_norms(attention: Attention) -> torch.Tensor:
    """Norms of the values, one for every head that reads them.

    Parameters
    ----------
    attention : Attention
        Of one layer.

    Returns
    -------
    Tensor of shape (batch, tokens, heads), float32
        Heads that share values have the same number.
    """
    new = attention.value[:, :, -attention.query.shape[2] :]  # not those in a cache
    shared = norms(new.transpose(1, 2))  # (batch, tokens, key_heads)
    return shared.repeat_interleave(_sharing(attention), dim=2)


def weights_of(
    attention: Attention, queries: slice, rows: slice = slice(None)
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention weights of some queries.

    Parameters
    ----------
    attention : Attention
        Of one layer.
    queries : slice
        Positions of the queries.
    rows : slice
        Rows of the batch.

    Returns
    -------
    weights : Tensor of shape (n_rows, heads, n_queries, n_keys), float32
        The weights, without keys that come after every query.
    logs : Tensor of the same shape
        Their logarithms; a large negative number where a key is hidden.
    """
    past = attention.key.shape[2] - attention.query.shape[2]
    last = past + queries.stop if attention.mask is None and attention.causal else None
    key = attention.key[rows, :, :last]
    if _sharing(attention) > 1:
        key = key.repeat_interleave(_sharing(attention), dim=1)
    # In float32 from the start: half precision would round the scores before the softmax.
    scores = (attention.query[rows, :, queries].float() @ key.float().mT).mul_(attention.scaling)
    if attention.softcap is not None:
        scores = attention.softcap * torch.tanh(scores / attention.softcap)
    hidden = _hidden_keys(attention, rows, queries, scores.shape[-1])
    if hidden is not None:
        scores += hidden * HIDDEN
    if attention.sinks is not None:
        sinks = attention.sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
        scores = torch.cat([scores, sinks], dim=-1)
    scores -= scores.amax(dim=-1, keepdim=True)
    weights = scores.softmax(dim=-1)
    # The largest score is now 0, and the logarithm of its weight -log Σ exp score.
    logs = scores.add_(weights.amax(dim=-1, keepdim=True).log_())
    if attention.sinks is not None:
        weights, logs = weights[..., :-1], logs[..., :-1]
    if attention.mask is not None:  # a query that sees nothing (padding) has no weights at all
        weights.masked_fill_(hidden.all(-1, keepdim=True), 0.0)
    return weights, logs


def _run_and_observe(base: str, module: nn.Module, *arguments: object, **options: object) -> tuple:
    output = attention_function(module, base)(module, *arguments, **options)
    observer: Observer | None = getattr(module, "lmri_observer", None)
    if observer is not None:
        query, key, value, mask = arguments[:4]
        scaling = options.get("scaling") or getattr(module, "scaling", None)
        causal = options.get("is_causal")
        observer(
            Attention(
                query=query,
                key=key,
                value=value,
                mask=mask,
                causal=getattr(module, "is_causal", True) if causal is None else causal,
                scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
                softcap=options.get("softcap"),
                sinks=getattr(module, "sinks", None),
            )
        )
    return output


def _blocks(attention: Attention) -> Iterator[tuple[slice, slice]]:
    """Rows and queries whose weights are held at a time."""
    batch, heads, tokens, _ = attention.query.shape
    each = heads * attention.key.shape[2]  # weights of a query of a row
    on_processor = attention.query.device.type == "cpu"
    at_once = WEIGHTS_AT_ONCE if on_processor else WEIGHTS_ON_DEVICE
    step = max(1, min(at_once // each, QUERIES_AT_ONCE if on_processor else tokens))
    groups = math.ceil(batch * each * step / at_once)
    rows = math.ceil(batch / groups)
    for row, query in product(range(0, batch, rows), range(0, tokens, step)):
        yield slice(row, row + rows), slice(query, min(query + step, tokens))


def _summarise_at_once(attention: Attention, found: Repeats) -> dict[str, torch.Tensor] | None:
    """All summaries in one reading where that can be done, else None: of plain causal attention."""
    query, key = attention.query, attention.key
    plain = attention.causal and attention.mask is attention.softcap is attention.sinks is None
    # A cache of a sliding window drops the oldest keys.
    if not plain or key.shape[2] != found.ids.shape[1] or not reads(query, key):
        return None
    reductions = load_reductions()
    if reductions is None:
        return None
    texts = found.ids, found.content.contiguous(), found.earlier
    made = reductions.attention(query, key, attention.scaling, *texts, len(ATTENTION_SUMMARIES))
    return dict(zip(ATTENTION_SUMMARIES, made.unbind(2), strict=True))


def _summarise_block(
    attention: Attention,
    found: Repeats,
    rows: slice,
    queries: slice,
    columns: torch.Tensor | None,
) -> tuple[torch.Tensor, ...]:
    """Each of :data:`ATTENTION_SUMMARIES`, of shape (n_rows, heads, n_queries).

    What every key receives is added to ``columns`` (batch, heads, n_keys).
    """
    weights, logs = weights_of(attention, queries, rows)  # (n_rows, heads, n_queries, n_keys)
    if columns is not None:
        real = found.real[rows, queries].to(weights.dtype)[:, None, None]  # padding sees too
        columns[rows, :, : weights.shape[-1]] += (real @ weights).squeeze(2)
    surprise = logs.mul_(weights)
    # A cache of a sliding window drops the oldest keys, the first token among them.
    dropped = found.ids.shape[1] - attention.key.shape[2]
    seen = 0 if dropped else 1
    first, rest = weights[..., :seen].sum(-1), weights[..., seen:].sum(-1)
    # Summed without the first token, not less its part: where it takes nearly all, the small rest
    # divided below would carry the rounding of the whole.
    left = -surprise[..., seen:].sum(-1)
    entropy = left - surprise[..., :seen].sum(-1)
    # log of the weights divided by their sum: -Σ (a/R) log (a/R) = -Σ a log a / R + log R
    spread = rest.clamp_min(torch.finfo(rest.dtype).tiny)
    entropy_rest = (left / spread + spread.log()).clamp_min(0.0).where(rest > 1e-6, 0.0)
    previous = torch.zeros_like(entropy)
    past = attention.key.shape[2] - attention.query.shape[2]
    diagonal = weights.diagonal(offset=past + queries.start - 1, dim1=-2, dim2=-1)
    previous[..., previous.shape[-1] - diagonal.shape[-1] :] = diagonal
    pairs = found.pairs(rows, queries, slice(dropped, dropped + weights.shape[-1]))
    return (
        entropy,
        entropy_rest,
        first,
        previous,
        _mass(weights, *pairs.duplicate),
        _mass(weights, *pairs.induction),
        _best(weights, *pairs.copied),
    )


def _seen_by(attention: Attention, found: Repeats) -> torch.Tensor:
    """Queries that may see each key: (batch, tokens, 1), at least 1."""
    real = found.real.float()
    if not attention.causal:
        return real.sum(1, keepdim=True).expand_as(real).unsqueeze(-1)
    return real.flip(1).cumsum(1).flip(1).clamp_min(1.0).unsqueeze(-1)


def _best(
    weights: torch.Tensor, rows: torch.Tensor, queries: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """Whether the largest weight is that of a chosen key, where there is any."""
    best = weights[rows, :, queries].argmax(-1)  # (n_found, heads)
    hits = torch.zeros_like(weights[..., 0])
    hits[rows, :, queries] = chosen.gather(1, best).float()
    return hits


def _mass(
    weights: torch.Tensor,
    rows: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    lengths: torch.Tensor,
) -> torch.Tensor:
    """Weight of few pairs, in order of row and query, summed for every query."""
    batch, heads, n_queries, _ = weights.shape
    picked = weights[rows, :, queries, keys]  # (n_pairs, heads)
    summed = torch.segment_reduce(picked, "sum", lengths=lengths, axis=0, unsafe=True)
    return summed.view(batch, n_queries, heads).transpose(1, 2)


def _hidden_keys(
    attention: Attention, rows: slice, queries: slice, keys: int
) -> torch.Tensor | None:
    mask = attention.mask
    if mask is not None:
        own = mask if mask.shape[0] == 1 else mask[rows]
        own = own[:, :, queries, :keys]
        return ~own if own.dtype == torch.bool else own < -1.0  # added: 0, or hugely negative
    if not attention.causal:
        return None
    device = attention.query.device
    past = attention.key.shape[2] - attention.query.shape[2]
    positions = torch.arange(queries.start, queries.stop, device=device).unsqueeze(1) + past
    return torch.arange(keys, device=device) > positions


def _sharing(attention: Attention) -> int:
    return attention.query.shape[1] // attention.key.shape[1]
