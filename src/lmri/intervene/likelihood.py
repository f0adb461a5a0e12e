"""What subjects would say next, teacher-forced, each row under its own plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from lmri.anatomy import Subject, equal_length_batches
from lmri.errors import LmriError
from lmri.intervene.plans import INTACT, AnyPlan
from lmri.intervene.routing import intervened
from lmri.intervene.session import trial_keys


def continuation_log_probabilities(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    *,
    plans: Sequence[AnyPlan] = (INTACT,),
    plan_of_row: Sequence[int] | None = None,
    rows: int,
) -> list[np.ndarray]:
    """Log-probability of every token of continuations: ``log p(c_t | prompt, c_0 .. c_{t-1})``.

    Parameters
    ----------
    subject : Subject
        The subject.
    prompts, continuations : sequence of sequence of int
        Token ids of every row; neither may be empty.
    plans : sequence of Plan or Combined
        Interventions; by default none. The continuation is the response of their phases.
    plan_of_row : sequence of int, optional
        Position of each row's plan; by default every row follows the first.
    rows : int
        Rows per forward pass, at most.

    Returns
    -------
    list of ndarray of shape (n_tokens of the continuation,), float64
        In nats.

    Raises
    ------
    LmriError
        If a prompt or a continuation is empty, or a plan cannot be carried out.
    """
    if any(len(continuation) == 0 for continuation in continuations):
        raise LmriError("A continuation must have at least one token. Got an empty one.")
    found = [np.empty(0)] * len(prompts)
    for batch, ids, logits in _passes(subject, prompts, continuations, plans, plan_of_row, rows):
        log = torch.log_softmax(logits[:, :-1].float(), dim=-1)
        said = log.gather(2, ids[:, -log.shape[1] :, None]).squeeze(2).double().cpu().numpy()
        for line, row in zip(said, batch, strict=True):
            found[row] = line[len(line) - len(continuations[row]) :]
    return found


def next_token_distributions(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    *,
    plans: Sequence[AnyPlan] = (INTACT,),
    plan_of_row: Sequence[int] | None = None,
    rows: int,
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Log-probabilities of all tokens after prompts, a batch at a time.

    Parameters
    ----------
    subject, prompts, plans, plan_of_row, rows
        As for :func:`continuation_log_probabilities`.

    Yields
    ------
    rows : list of int
        Rows of the batch.
    log_probabilities : Tensor of shape (batch, vocabulary), float64
        In nats.
    """
    nothing = [()] * len(prompts)
    for batch, _, logits in _passes(subject, prompts, nothing, plans, plan_of_row, rows):
        yield batch, torch.log_softmax(logits[:, -1].double(), dim=-1).cpu()


@torch.inference_mode()
def _passes(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    plans: Sequence[AnyPlan],
    plan_of_row: Sequence[int] | None,
    rows: int,
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Rows, token ids (batch, tokens) and logits from the last prompt token of the shortest on."""
    if any(len(prompt) == 0 for prompt in prompts):
        raise LmriError("A prompt must have at least one token to go on from. Got an empty one.")
    chosen = torch.as_tensor(np.zeros(len(prompts)) if plan_of_row is None else plan_of_row).long()
    texts = [[*p, *c] for p, c in zip(prompts, continuations, strict=True)]
    keys, device = trial_keys(prompts), subject.device
    with intervened(subject, plans) as session:
        for batch in equal_length_batches([len(text) for text in texts], rows):
            session.rows, session.keys = chosen[batch].to(device), keys[batch].to(device)
            session.prompts = torch.tensor([len(prompts[row]) for row in batch])
            ids = torch.tensor([texts[row] for row in batch], device=device)
            kept = ids.shape[1] - int(session.prompts.min()) + 1
            logits = subject.model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
            yield batch, ids, logits
