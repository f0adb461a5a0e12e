"""Phases: which span of a trial each token belongs to, and how activity is pooled over them."""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from lmri.errors import StimuliError

SPANS = ("system", "content", "response")
"""One span per token; template words are ``system``."""

PHASES = ("system", "content", "content_last", "prompt_last", "response")
"""Phases that are pooled; ``content_last`` and ``prompt_last`` are single tokens."""

STATISTICS = ("mean", "last", "sum", "sum_squares", "count")


def prompt_spans(
    tokenizer: PreTrainedTokenizerBase, prompt: str, content: str, trial: str
) -> np.ndarray:
    """Span of every token of a prompt.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        With character offsets (a fast tokenizer).
    prompt : str
        The whole prompt.
    content : str
        The part of it that is the content; its first occurrence counts.
    trial : str
        Name of the trial, for the error.

    Returns
    -------
    ndarray of shape (n_prompt,), uint8
        Positions in :data:`SPANS`.

    Raises
    ------
    StimuliError
        If the content is not in the prompt or covers no token.
    """
    start = prompt.find(content)
    if start < 0 or not content:
        raise StimuliError(f"The content of trial {trial!r} must be a part of its prompt.")
    encoded = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    offsets = np.array(encoded["offset_mapping"])  # (n_prompt, 2)
    inside = (offsets[:, 0] < start + len(content)) & (offsets[:, 1] > start)
    if not inside.any():
        raise StimuliError(f"The content of trial {trial!r} must cover a token.")
    return inside.astype(np.uint8) * np.uint8(SPANS.index("content"))


def phase_masks(spans: np.ndarray, n_prompt: int) -> np.ndarray:
    """Tokens of every phase.

    Parameters
    ----------
    spans : ndarray of shape (n_tokens,), uint8
        Span of every token of a trial, response included.
    n_prompt : int
        Tokens of the prompt.

    Returns
    -------
    ndarray of shape (n_phases, n_tokens), bool
        In the order of :data:`PHASES`.
    """
    by_span = {name: spans == index for index, name in enumerate(SPANS)}
    content_last = np.zeros(len(spans), dtype=bool)
    content_last[np.flatnonzero(by_span["content"])[-1]] = True
    prompt_last = np.zeros(len(spans), dtype=bool)
    prompt_last[n_prompt - 1] = True
    masks = {**by_span, "content_last": content_last, "prompt_last": prompt_last}
    return np.stack([masks[phase] for phase in PHASES])


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
        In the order of :data:`PHASES` and :data:`STATISTICS`. A phase without a token (a prompt
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
