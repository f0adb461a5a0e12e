"""How likely answers are, and whether they would be given, under many plans at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lmri.anatomy import Subject
from lmri.intervene.plans import AnyPlan
from lmri.intervene.sharing import reference_passes, same_plans


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
