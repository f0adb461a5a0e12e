"""How likely answers are, and whether they would be given, under many plans at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lmri.anatomy import Subject
from lmri.intervene.plans import AnyPlan
from lmri.intervene.sharing import passes, same_plans


def exact(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    references: Sequence[Sequence[int]],
    plans: Sequence[AnyPlan],
    rows: int,
) -> np.ndarray:
    """Whether greedy responses are the references, under every plan.

    See :func:`lmri.intervene.says_exactly`, which asks it of single rows.

    Parameters
    ----------
    subject : Subject
        The subject.
    prompts, references : sequence of sequence of int
        Token ids; a reference ends with the end token.
    plans : sequence of Plan or Combined
        The plans.
    rows : int
        Rows per forward pass, at most.

    Returns
    -------
    ndarray of shape (n_plans, n_prompts), bool
        True where the response would be the reference.
    """
    hits = np.zeros((len(plans), len(prompts)), dtype=bool)
    for read in reference_passes(subject, prompts, references, plans, rows):
        hits[read.plans, read.texts] = read.said
    return hits[same_plans(plans)]


def answer_scores(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    references: Sequence[Sequence[int]],
    plans: Sequence[AnyPlan],
    rows: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability of references, and whether greedy responses are them, under every plan.

    ``log p = sum_t log p(r_t | prompt, r_0 .. r_{t-1})``, and the response is the reference if each
    ``r_t`` is the most likely token there.

    Parameters
    ----------
    subject : Subject
        The subject.
    prompts, references : sequence of sequence of int
        Token ids; a reference ends with the end token.
    plans : sequence of Plan or Combined
        The plans.
    rows : int
        Rows per forward pass, at most.

    Returns
    -------
    log_probability : ndarray of shape (n_plans, n_prompts), float64
        Of the whole references, in nats.
    said : ndarray of shape (n_plans, n_prompts), bool
        True where the response would be the reference, as
        :func:`lmri.intervene.says_exactly` has it.
    """
    likely = np.zeros((len(plans), len(prompts)))
    said = np.zeros((len(plans), len(prompts)), dtype=bool)
    for read in reference_passes(subject, prompts, references, plans, rows):
        at = read.plans, read.texts
        log = torch.log_softmax(read.logits.float(), dim=-1).gather(2, read.ids[..., None])
        counted = log.squeeze(2).double().masked_fill(read.before, 0.0)
        likely[at] = counted.sum(dim=1).cpu().numpy()
        said[at] = read.said
    like = same_plans(plans)
    return likely[like], said[like]


@dataclass(frozen=True)
class ReferencePass:
    """What a pass over prompts and references says of the references.

    Attributes
    ----------
    plans, texts : ndarray of shape (n_rows,), int64
        Of each row.
    logits : Tensor of shape (n_rows, tail, vocabulary)
        Before each of the last tokens.
    ids : Tensor of shape (n_rows, tail), int64
        These tokens.
    before : Tensor of shape (n_rows, tail), bool
        Where a token is none of the reference.
    """

    plans: np.ndarray
    texts: np.ndarray
    logits: torch.Tensor
    ids: torch.Tensor
    before: torch.Tensor

    @property
    def said(self) -> np.ndarray:
        """Whether each token of the reference is the most likely one, (n_rows,), bool."""
        right = (self.logits.argmax(dim=-1) == self.ids) | self.before
        return right.all(dim=1).cpu().numpy()


def reference_passes(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    references: Sequence[Sequence[int]],
    plans: Sequence[AnyPlan],
    rows: int,
) -> Iterator[ReferencePass]:
    """Read prompts with their references under every different plan.

    Parameters
    ----------
    subject, prompts, references, plans, rows
        As for :func:`exact`.

    Yields
    ------
    ReferencePass
        One for each pass, as of :func:`passes`.
    """
    texts = [[*p, *r] for p, r in zip(prompts, references, strict=True)]
    lengths, counts = [len(prompt) for prompt in prompts], [len(own) for own in references]
    for passed in passes(subject, texts, lengths, [count + 1 for count in counts], plans, rows):
        logits = passed.logits[:, :-1]
        tail = logits.shape[1]
        ids = torch.tensor([texts[i][-tail:] for i in passed.texts], device=logits.device)
        counted = torch.tensor([counts[i] for i in passed.texts], device=logits.device)
        before = torch.arange(tail, device=logits.device) < tail - counted[:, None]
        yield ReferencePass(passed.plans, passed.texts, logits, ids, before)
