"""Greedy responses, each row under its own plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lmri.anatomy import Subject, equal_length_batches
from lmri.intervene.plans import INTACT, Plan
from lmri.intervene.routing import intervened


@dataclass(frozen=True)
class Responses:
    """Greedy responses to a list of prompts, in its order.

    Attributes
    ----------
    tokens : list of ndarray of int64
        Generated tokens of each row, the end token included when it was reached.
    ended : ndarray of shape (n_rows,), bool
        Whether the end token was reached before the limit.
    onset_margin : ndarray of shape (n_rows,), float32
        Logit of the watched token minus the largest other logit at the last prompt token.
    """

    tokens: list[np.ndarray]
    ended: np.ndarray
    onset_margin: np.ndarray


@torch.inference_mode()
def respond(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    watched: Sequence[int],
    *,
    plans: Sequence[Plan] = (INTACT,),
    plan_of_row: Sequence[int] | None = None,
    max_new_tokens: int,
    rows: int,
) -> Responses:
    """Generate greedily; rows of one batch may follow different plans.

    Parameters
    ----------
    subject : Subject
        The subject.
    prompts : sequence of sequence of int
        Token ids of every row's prompt.
    watched : sequence of int
        For every row the token whose logit margin is measured at the first step.
    plans : sequence of Plan
        Interventions; by default none.
    plan_of_row : sequence of int, optional
        Position of each row's plan; by default every row follows the first.
    max_new_tokens : int
        Limit of a response.
    rows : int
        Rows per forward pass, at most. Results depend on it only by rounding.

    Returns
    -------
    Responses
        One per row.
    """
    chosen = torch.as_tensor(np.zeros(len(prompts)) if plan_of_row is None else plan_of_row).long()
    tokens: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * len(prompts)
    ended = np.zeros(len(prompts), dtype=bool)
    margins = np.zeros(len(prompts), dtype=np.float32)
    with intervened(subject, plans) as session:
        for batch in equal_length_batches([len(prompt) for prompt in prompts], rows):
            session.rows = chosen[batch]
            ids = torch.tensor([list(prompts[row]) for row in batch])
            watch = torch.tensor([watched[row] for row in batch])
            generated, margin = _greedy(subject, ids, watch, max_new_tokens)
            margins[batch] = margin.numpy()
            for row, line in zip(batch, generated.numpy(), strict=True):
                tokens[row], ended[row] = _until_end(line, subject.tokenizer.eos_token_id)
    return Responses(tokens, ended, margins)


@torch.inference_mode()
def says_exactly(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    references: Sequence[Sequence[int]],
    *,
    plans: Sequence[Plan],
    plan_of_row: Sequence[int],
    rows: int,
) -> np.ndarray:
    """Whether the greedy response is the reference, in one pass instead of one per token.

    Greedy decoding gives the reference if and only if, with the reference as context, the most
    likely token is the reference's next one everywhere.

    Parameters
    ----------
    subject : Subject
        The subject.
    prompts, references : sequence of sequence of int
        Token ids of every row; a reference ends with the end token.
    plans : sequence of Plan
        Interventions.
    plan_of_row : sequence of int
        Position of each row's plan.
    rows : int
        Rows per forward pass, at most.

    Returns
    -------
    ndarray of shape (n_rows,), bool
        True where the response would be the reference.
    """
    chosen = torch.as_tensor(plan_of_row).long()
    texts = [[*p, *r] for p, r in zip(prompts, references, strict=True)]
    starts = torch.tensor([len(prompt) for prompt in prompts])
    exact = np.zeros(len(texts), dtype=bool)
    with intervened(subject, plans) as session:
        for batch in equal_length_batches([len(text) for text in texts], rows):
            session.rows = chosen[batch]
            ids = torch.tensor([texts[row] for row in batch])  # (batch, tokens)
            # Logits are needed from the last prompt token of the shortest prompt on.
            kept = ids.shape[1] - int(starts[batch].min()) + 1
            logits = subject.model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
            hits = logits[:, :-1].argmax(dim=-1) == ids[:, -kept + 1 :]
            positions = torch.arange(ids.shape[1] - kept + 1, ids.shape[1])
            outside = positions < starts[batch, None]
            exact[batch] = (hits | outside).all(dim=1).numpy()
    return exact


def _greedy(
    subject: Subject, ids: torch.Tensor, watch: torch.Tensor, max_new_tokens: int
) -> tuple[torch.Tensor, torch.Tensor]:
    end = subject.tokenizer.eos_token_id
    cache, steps = None, []
    finished = torch.zeros(len(ids), dtype=torch.bool)
    for step in range(max_new_tokens):
        output = subject.model(
            input_ids=ids if step == 0 else steps[-1].unsqueeze(1),
            past_key_values=cache,
            use_cache=max_new_tokens > 1,
            logits_to_keep=1,
        )
        logits, cache = output.logits[:, -1], output.past_key_values  # (batch, vocabulary)
        if step == 0:
            margin = _margin(logits, watch)
        steps.append(logits.argmax(dim=-1))
        finished |= steps[-1] == end
        if finished.all():
            break
    return torch.stack(steps, dim=1), margin


def _margin(logits: torch.Tensor, watch: torch.Tensor) -> torch.Tensor:
    own = logits.gather(1, watch.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, watch.unsqueeze(1), float("-inf"))
    return own - others.max(dim=-1).values


def _until_end(line: np.ndarray, end: int) -> tuple[np.ndarray, bool]:
    ends = np.flatnonzero(line == end)
    return (line[: ends[0] + 1], True) if len(ends) else (line, False)
