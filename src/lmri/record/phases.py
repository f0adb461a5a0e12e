"""Phases: which span of a trial each token belongs to, and how activity is pooled over them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from lmri.anatomy import (
    POST_INSTRUCTION,
    SPANS,
    Prompt,
    template_tail,
    thinking_blocks,
    thinking_delimiters,
)
from lmri.config import TemplateOptions

PHASES = ("system", "content", "content_last", "prompt_last", "response")
"""Phases of a plain prompt; ``content_last`` and ``prompt_last`` are single tokens."""

STATISTICS = ("mean", "last", "sum", "sum_squares", "count")


def phase_names(
    tokenizer: PreTrainedTokenizerBase, template: TemplateOptions, message: str
) -> tuple[str, ...]:
    """Phases that a subject has on a task, the same for every shard.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.
    template : TemplateOptions
        The template of the task.
    message : str
        The first prompt of the task, see :func:`lmri.anatomy.template_tail`.

    Returns
    -------
    tuple of str
        :data:`PHASES`; with a chat template also ``think`` where the subject's family thinks, and
        ``post_instruction_<i>`` for each token the template writes after the last user message.
    """
    if template.kind != "chat":
        return PHASES
    think = ("think",) if thinking_delimiters(tokenizer) else ()
    tail = range(template_tail(tokenizer, template, message))
    return (*PHASES, *think, *(f"{POST_INSTRUCTION}{i}" for i in tail))


def span_names(phases: Sequence[str]) -> tuple[str, ...]:
    """Spans among the phases, in the order of their codes.

    Parameters
    ----------
    phases : sequence of str
        From :func:`phase_names`.

    Returns
    -------
    tuple of str
        The first of :data:`lmri.anatomy.SPANS`.
    """
    return tuple(name for name in SPANS if name in phases)


def trial_spans(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    response: Sequence[int],
    phases: Sequence[str],
) -> np.ndarray:
    """Span of every token of a trial, response included.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.
    prompt : Prompt
        The rendered prompt.
    response : sequence of int
        Generated tokens, the end token included.
    phases : sequence of str
        From :func:`phase_names`.

    Returns
    -------
    ndarray of shape (n_tokens,), uint8
        Positions in :data:`lmri.anatomy.SPANS`. What is generated is ``response``, the
        delimiters of thinking too; what stands between them is ``think``.
    """
    generated = np.full(len(response), SPANS.index("response"), dtype=np.uint8)
    thinking = thinking_delimiters(tokenizer) if "think" in phases else None
    if thinking is not None:
        blocks, _ = thinking_blocks(tokenizer, response, thinking, inside=prompt.thinking)
        for block in blocks:
            generated[block] = SPANS.index("think")
    return np.concatenate([prompt.spans, generated])


def phase_masks(
    spans: np.ndarray,
    n_prompt: int,
    phases: Sequence[str] = PHASES,
    instruction_last: int | None = None,
    n_prefill: int = 0,
) -> np.ndarray:
    """Tokens of every phase.

    Parameters
    ----------
    spans : ndarray of shape (n_tokens,), uint8
        Span of every token of a trial, response included.
    n_prompt : int
        Tokens of the prompt.
    phases : sequence of str
        From :func:`phase_names`.
    instruction_last : int, optional
        Position of the last token of the last user message; needed for post-instruction phases.
    n_prefill : int
        Tokens at the end of the prompt that are a prefill.

    Returns
    -------
    ndarray of shape (n_phases, n_tokens), bool
        In the order of ``phases``. A post-instruction position past the template has no token.
    """
    positions = np.arange(len(spans))
    masks = {name: spans == index for index, name in enumerate(SPANS)}
    masks["content_last"] = positions == np.flatnonzero(masks["content"])[-1]
    masks["prompt_last"] = positions == n_prompt - 1
    for name in phases:
        if name.startswith(POST_INSTRUCTION):
            at = instruction_last + 1 + int(name.removeprefix(POST_INSTRUCTION))
            masks[name] = (positions == at) & (at < n_prompt - n_prefill)
    return np.stack([masks[phase] for phase in phases])


def pool(values: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Pool activity over the tokens of each phase.

    Parameters
    ----------
    values : Tensor of shape (batch, tokens, ...)
        Activity.
    masks : Tensor of shape (batch, n_phases, tokens), bool
        Tokens of each phase.

    Returns
    -------
    Tensor of shape (batch, n_phases, n_statistics, ...), float32
        In the order of the phases and of :data:`STATISTICS`. A phase without a token (a prompt
        that is all content has no ``system``) has the mean and last NaN and the sums and count 0.
    """
    weights = masks.double()  # sums in float64: their order then does not show in float32
    flat = values.double().reshape(*values.shape[:2], -1)  # (batch, tokens, features)
    total = weights @ flat  # (batch, n_phases, features)
    squares = weights @ flat.square()
    count = weights.sum(-1, keepdim=True).expand_as(total)
    positions = torch.arange(masks.shape[-1])
    last = (masks * positions).amax(-1)  # (batch, n_phases)
    final = flat.gather(1, last.unsqueeze(-1).expand(-1, -1, flat.shape[-1]))
    final = final.where(count > 0, torch.nan)
    pooled = torch.stack([total / count, final, total, squares, count], dim=2)
    return pooled.float().view(*pooled.shape[:3], *values.shape[2:])
