"""Attention patterns: where heads look is recorded, or replaced by another pattern.

The subject's own attention function runs first. Where a head is to look elsewhere, its output is
the values weighted by the new pattern; all other heads, and heads whose pattern is replaced by
their own, keep every bit. Switching off what a head writes (mode ``zero``) leaves its pattern
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lmri.anatomy import Subject, attention_function, attentions
from lmri.checks import check_choice, check_range
from lmri.errors import LmriError, SubjectError

PREFIX = "lmri_patterns_"

UNDERSTOOD = ("sdpa", "eager")
"""Implementations whose masks are understood here."""

ChangePattern = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From weights (batch, heads, tokens, keys), and which keys may be seen (same, or 1 for batch and
heads), to the weights that are used instead."""


@contextmanager
def changed_patterns(model: nn.Module, changes: Mapping[int, ChangePattern]) -> Iterator[None]:
    """Change where the heads of layers look; everything is restored afterwards.

    A change within a change is made after it.

    Parameters
    ----------
    model : torch.nn.Module
        Language model of transformers.
    changes : mapping of int to callable
        By layer.

    Raises
    ------
    SubjectError
        If the model's attention is of another implementation than :data:`UNDERSTOOD`.
    """
    before = model.config._attn_implementation
    base = before.removeprefix(PREFIX)
    if base not in UNDERSTOOD:
        raise SubjectError(
            "The 'attention' of a subject must be one of 'sdpa', 'eager' where patterns are read "
            f"or set: others say otherwise what a token sees. Got '{base}'."
        )
    name = PREFIX + base
    ALL_ATTENTION_FUNCTIONS.register(name, partial(_run, base))
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[base])
    with ExitStack() as stack:
        for layer, change in changes.items():
            stack.enter_context(_changed_one(attentions(model)[layer], change))
        model.set_attn_implementation(name)
        stack.callback(model.set_attn_implementation, before)
        yield


@contextmanager
def _changed_one(module: nn.Module, change: ChangePattern) -> Iterator[None]:
    """Change the pattern of one layer, after what already changes it."""
    first: ChangePattern | None = getattr(module, "lmri_pattern", None)
    if first is None:
        module.lmri_pattern = change
    else:
        module.lmri_pattern = lambda weights, seen: change(first(weights, seen), seen)
    try:
        yield
    finally:
        if first is None:
            del module.lmri_pattern
        else:
            module.lmri_pattern = first


def uniform_pattern(weights: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Attention to all tokens that may be seen alike; to none where none may be.

    Parameters
    ----------
    weights : Tensor of shape (batch, heads, tokens, keys)
        Attention weights.
    seen : Tensor of shape (batch or 1, 1, tokens, keys), bool
        Keys that may be seen.

    Returns
    -------
    Tensor of the shape of the weights
        The pattern.
    """
    alike = seen.to(weights.dtype)
    return (alike / alike.sum(-1, keepdim=True).clamp_min(1)).expand_as(weights)


def previous_token_pattern(tokens: int, strength: float = 1.0) -> torch.Tensor:
    """Attention to the token before, and to the token itself with what is left.

    Parameters
    ----------
    tokens : int
        Tokens of the text.
    strength : float
        Weight of the token before, in [0, 1]; the first token has itself alone.

    Returns
    -------
    Tensor of shape (1, tokens, tokens), float32
        A pattern for :func:`clamped_patterns`.

    Notes
    -----
    Singh et al. 2024, What needs to go right for an induction head? (arXiv 2404.07129), who clamp
    heads to such patterns while a subject is trained.
    """
    return _looking_at([max(place - 1, 0) for place in range(tokens)], strength).unsqueeze(0)


def induction_pattern(texts: Sequence[Sequence[int]], strength: float = 1.0) -> torch.Tensor:
    """Attention to the token after the last one that was the same, and with what is left to itself.

    Parameters
    ----------
    texts : sequence of sequence of int
        Token ids of texts of one length.
    strength : float
        Weight of the token after the earlier one, in [0, 1]; a token that is there for the first
        time has itself alone.

    Returns
    -------
    Tensor of shape (n_texts, tokens, tokens), float32
        Patterns for :func:`clamped_patterns`, see :func:`previous_token_pattern` for the source.
    """
    patterns = []
    for text in texts:
        seen: dict[int, int] = {}
        wanted = []
        for place, token in enumerate(text):
            wanted.append(seen.get(token, place))
            seen[token] = place + 1
        patterns.append(_looking_at(wanted, strength))
    return torch.stack(patterns)


def _looking_at(wanted: Sequence[int], strength: float) -> torch.Tensor:
    check_range(strength, "strength", "a pattern of attention", 0.0, 1.0, LmriError)
    places, wanted = torch.arange(len(wanted)), torch.tensor(wanted)
    pattern = torch.zeros(len(wanted), len(wanted))
    pattern[places, wanted] += strength
    pattern[places, places] += 1.0 - strength
    return pattern


@contextmanager
def recorded_patterns(
    subject: Subject, heads: list[tuple[int, int]]
) -> Iterator[dict[tuple[int, int], torch.Tensor]]:
    """Keep where heads look on every pass; the last one stays.

    Parameters
    ----------
    subject : Subject
        The subject.
    heads : list of (int, int)
        (layer, head).

    Yields
    ------
    dict of (int, int) to Tensor of shape (batch, tokens, keys)
        Filled by every pass.
    """
    kept: dict[tuple[int, int], torch.Tensor] = {}

    def keep(layer: int, weights: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        kept.update({unit: weights[:, unit[1]].clone() for unit in heads if unit[0] == layer})
        return weights

    _check_heads(subject, heads)
    layers = {layer for layer, _ in heads}
    with changed_patterns(subject.model, {layer: partial(keep, layer) for layer in layers}):
        yield kept


@contextmanager
def clamped_patterns(
    subject: Subject, patterns: Mapping[tuple[int, int], torch.Tensor]
) -> Iterator[None]:
    """Make heads look where they are told, on passes over as many tokens; others are left alone.

    Parameters
    ----------
    subject : Subject
        The subject.
    patterns : mapping of (int, int) to Tensor of shape (batch or 1, tokens, tokens)
        By (layer, head): weights of the keys, at most 1 in all for every token.

    Raises
    ------
    LmriError
        If a head does not exist, or weights are below 0 or more than 1 in all.
    """
    _check_heads(subject, list(patterns))
    for unit, pattern in patterns.items():
        if pattern.ndim != 3 or pattern.min() < 0 or pattern.sum(-1).max() > 1 + 1e-3:
            raise LmriError(
                f"The pattern of head {unit} must have the shape (batch, tokens, tokens), with "
                f"weights of at least 0 and at most 1 in all for a token. Got {pattern.shape}."
            )

    def clamp(layer: int, weights: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        changed = weights.clone()
        for (own, head), pattern in patterns.items():
            if own == layer and pattern.shape[1:] == weights.shape[2:]:
                changed[:, head] = pattern.to(weights)
        return changed

    layers = {layer for layer, _ in patterns}
    with changed_patterns(subject.model, {layer: partial(clamp, layer) for layer in layers}):
        yield


def _check_heads(subject: Subject, heads: list[tuple[int, int]]) -> None:
    anatomy = subject.anatomy
    for layer, head in heads:
        check_choice(layer, range(anatomy.layers), "layer", "a pattern of attention", LmriError)
        check_choice(head, range(anatomy.heads), "head", "a pattern of attention", LmriError)


def _run(
    base: str,
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *arguments: object,
    **options: object,
) -> tuple:
    run, eager = (attention_function(module, name) for name in (base, "eager"))
    output, *rest = run(module, query, key, value, mask, *arguments, **options)
    change: ChangePattern | None = getattr(module, "lmri_pattern", None)
    if change is None:
        return output, *rest
    seen = _seen(module, query, key, mask, options.get("is_causal"))
    hidden = torch.zeros(seen.shape, dtype=query.dtype, device=query.device)
    hidden = hidden.masked_fill(~seen, torch.finfo(query.dtype).min)
    weights = eager(module, query, key, value, hidden, *arguments, **options)[1]
    changed = change(weights, seen)
    values = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
    mixed = (changed @ values).transpose(1, 2)  # (batch, tokens, heads, size)
    kept = (changed == weights).all(-1).transpose(1, 2).unsqueeze(-1)
    return torch.where(kept, output, mixed), *rest


def _seen(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool | None,
) -> torch.Tensor:
    """Keys that each token may see, (batch or 1, 1, tokens, keys)."""
    tokens, keys = query.shape[2], key.shape[2]
    if mask is not None:
        own = mask[..., :keys]
        return own if own.dtype == torch.bool else own > -1.0  # added: 0, or hugely negative
    seen = torch.ones(1, 1, tokens, keys, dtype=torch.bool, device=query.device)
    causal = getattr(module, "is_causal", True) if causal is None else causal
    return seen.tril(keys - tokens) if causal else seen
