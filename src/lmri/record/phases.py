"""Phases: which span of a trial each token belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
