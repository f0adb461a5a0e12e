"""Attention under rules: keys that pass a cut, and caches that only some heads keep whole.

transformers calls one attention function in every architecture; another one is registered that
computes the layers with rules here and leaves the others to the model's own. Scores are in float32.

The cache of transformers holds all keys and values of every head, and goes on doing so: heads that
keep a part are masked. The counts say what a cache that is really smaller would hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lmri.anatomy import attention_function, attentions
from lmri.sparse.masks import keys_attended, positions_kept
from lmri.sparse.rules import AttentionTopK, CacheHeads
from lmri.sparse.runtime.passes import Pass
from lmri.sparse.runtime.products import Tools

PREFIX = "lmri_sparse_"
ATTRIBUTE = "lmri_sparse_attention"


class SparseAttention:
    """Attention of one layer.

    Parameters
    ----------
    tools : Tools
        Of the session.
    layer : int
        The layer.
    top_k : AttentionTopK, optional
        Keys that are attended to.
    cache : CacheHeads, optional
        Heads that keep all keys and values.
    """

    def __init__(
        self,
        tools: Tools,
        layer: int,
        top_k: AttentionTopK | None,
        cache: CacheHeads | None,
    ) -> None:
        self.tools, self.layer, self.top_k, self.cache = tools, layer, top_k, cache

    def applies(self) -> bool:
        """Tell whether a rule changes this pass."""
        return self.cache is not None or not self.tools.now().dense

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        options: dict,
    ) -> Tensor:
        """Attend.

        Parameters
        ----------
        module : torch.nn.Module
            The attention module.
        query : Tensor of shape (batch, heads, queries, key_size)
            Queries.
        key, value : Tensor of shape (batch, key_heads, keys, key_size or value_size)
            Keys and values, those of the cache first.
        mask : Tensor of shape (batch, 1, queries, keys), or None
            0 where a key may be seen.
        options : dict
            Further arguments of the attention function.

        Returns
        -------
        Tensor of shape (batch, queries, heads, value_size)
            Outputs of the heads.
        """
        now = self.tools.now()
        sharing = query.shape[1] // key.shape[1]
        scaling = options.get("scaling") or query.shape[-1] ** -0.5
        softcap = options.get("softcap")

        def scores_of(keys: Tensor) -> Tensor:
            scores = (query.float() @ keys.mT) * scaling
            return scores if softcap is None else softcap * torch.tanh(scores / softcap)

        wide_key, wide_value = key.float(), value.float()
        visible = _visible(module, query, key, mask)  # (batch or 1, 1, queries, keys)
        scores = scores_of(_shared(wide_key, sharing))  # (batch, heads, queries, keys)
        seen, extra = visible.expand(scores.shape), []
        if self.cache is not None:
            held = self._held(now, key.shape[1], query.shape[2], key)
            held = held & visible  # (batch, key_heads, queries, keys)
            dropped = visible & ~held
            self._count(now, visible, held, dropped)
            seen = _shared(held, sharing)
            if self.cache.compensation:
                extra.append(_compensation(query, wide_key, wide_value, dropped, scaling, softcap))
        if self.top_k is not None and not now.dense:
            seen = self._passing(now, scores, seen)
        scores = scores.masked_fill(~seen, float("-inf"))
        columns = [scores, *(score for score, _ in extra)]
        sinks = getattr(module, "sinks", None)
        if sinks is not None:  # GPT-OSS: a score that belongs to no token
            columns.append(sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:-1], 1))
        weights = torch.cat(columns, dim=-1).softmax(dim=-1)
        # Padding sees nothing at all, where there is no sink either.
        weights = weights.nan_to_num(0.0) if not bool(visible.any(-1).all()) else weights
        output = weights[..., : scores.shape[-1]] @ _shared(wide_value, sharing)
        for _, mean in extra:
            output = output + weights[..., scores.shape[-1], None] * mean
        return output.to(query.dtype).transpose(1, 2).contiguous()

    def _held(self, now: Pass, heads: int, queries: int, key: Tensor) -> Tensor:
        """Positions of the cache that heads hold: (batch or 1, key_heads, queries, keys)."""
        device, n_keys = key.device, key.shape[2]
        # The cache of a sliding window has lost its first positions; a static one has room left.
        first = max(0, now.length - n_keys)
        keys = torch.arange(first, first + n_keys, device=device)
        own = torch.arange(now.length - queries, now.length, device=device)
        starts = None if now.starts is None else now.starts.to(device)
        held = positions_kept(self.cache, heads, own, keys, starts)
        return held if held.dim() == 4 else held[None]

    def _passing(self, now: Pass, scores: Tensor, seen: Tensor) -> Tensor:
        kept = keys_attended(self.top_k, scores, seen)
        if now.exempt is not None:
            kept = torch.where(now.exempt.view(now.batch, 1, now.tokens, 1), seen, kept)
        if self.tools.counts.enabled:
            units, used = (_real_keys(mask, now) for mask in (seen, kept))
            name = AttentionTopK.name
            self.tools.counts.add_rule(now, self.layer, name, "attention", units, used)
        return kept

    def _count(self, now: Pass, visible: Tensor, held: Tensor, dropped: Tensor) -> None:
        """Count positions of the cache; a mean of those dropped takes the room of one."""
        if not self.tools.counts.enabled:
            return
        units = _real_keys(visible.expand(held.shape), now)
        kept = _real_keys(held, now)
        if self.cache.compensation:
            kept = kept + _real_keys(dropped.any(dim=-1, keepdim=True), now)
        self.tools.counts.add_rule(now, self.layer, CacheHeads.name, "attention", units, kept)


@contextmanager
def attending(model: nn.Module, sparse: dict[int, SparseAttention]) -> Iterator[None]:
    """Compute attention of some layers by rules; the model's own is restored afterwards.

    Parameters
    ----------
    model : torch.nn.Module
        Language model of transformers.
    sparse : dict of int to SparseAttention
        By layer; with none nothing is changed.
    """
    if not sparse:
        yield
        return
    before = model.config._attn_implementation
    name = PREFIX + before
    ALL_ATTENTION_FUNCTIONS.register(name, partial(_run, before))
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS["eager"])
    modules = attentions(model)
    model.set_attn_implementation(name)
    try:
        for layer, attention in sparse.items():
            setattr(modules[layer], ATTRIBUTE, attention)
        yield
    finally:
        model.set_attn_implementation(before)
        for layer in sparse:
            if hasattr(modules[layer], ATTRIBUTE):
                delattr(modules[layer], ATTRIBUTE)


def _run(
    before: str,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *arguments: object,
    **options: object,
) -> tuple[Tensor, Tensor | None]:
    sparse: SparseAttention | None = getattr(module, ATTRIBUTE, None)
    if sparse is not None and sparse.applies():
        return sparse(module, query, key, value, mask, options), None
    own = attention_function(module, before)
    return own(module, query, key, value, mask, *arguments, **options)


def _visible(module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Keys that queries may see: (batch or 1, 1, queries, keys), bool."""
    queries, keys = query.shape[2], key.shape[2]
    if mask is not None:
        mask = mask[..., :keys]
        return mask if mask.dtype is torch.bool else mask > -1.0  # added: 0, or hugely negative
    visible = torch.ones(1, 1, queries, keys, dtype=torch.bool, device=query.device)
    return visible.tril(keys - queries) if getattr(module, "is_causal", True) else visible


def _compensation(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropped: Tensor,
    scaling: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    """Mean key and value of what was dropped, with the weight of as many as they are.

    A score s stands for n equal ones as ``s + log n``: exactly what they would have weighed, if
    they were equal (Tang et al. 2024, arXiv:2407.15891).

    Returns
    -------
    scores : Tensor of shape (batch, heads, queries, 1)
        Minus infinity where nothing was dropped.
    means : Tensor of shape (batch, heads, queries, value_size)
        Values.
    """
    sharing = query.shape[1] // key.shape[1]
    wide = dropped.float()  # (batch, key_heads, queries, keys)
    count = wide.sum(dim=-1, keepdim=True)
    share = wide / count.clamp_min(1.0)
    means = _shared(share @ key, sharing)  # (batch, heads, queries, key_size)
    scores = (query.float() * means).sum(dim=-1, keepdim=True) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    return scores + _shared(count.log(), sharing), _shared(share @ value, sharing)


def _shared(values: Tensor, sharing: int) -> Tensor:
    """Repeat what heads of keys and values have for the heads of queries that read them."""
    return values if sharing == 1 else values.repeat_interleave(sharing, dim=1)


def _real_keys(mask: Tensor, now: Pass) -> Tensor:
    """Sum a mask of shape (batch, heads, queries, keys) over queries that are no padding."""
    if now.real is None:
        return mask.sum()
    return (mask & now.real.view(now.batch, 1, now.tokens, 1)).sum()
