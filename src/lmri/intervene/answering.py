"""How likely answers are, and whether they would be given, under many plans at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lmri.anatomy import Subject
from lmri.intervene.plans import AnyPlan
from lmri.intervene.sharing import passes, same_plans


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
    texts = [[*p, *r] for p, r in zip(prompts, references, strict=True)]
    lengths, counts = [len(prompt) for prompt in prompts], [len(own) for own in references]
    likely = np.zeros((len(plans), len(texts)))
    said = np.zeros((len(plans), len(texts)), dtype=bool)
    kept = [count + 1 for count in counts]
    for passed in passes(subject, texts, lengths, kept, plans, rows):
        logits = passed.logits[:, :-1]  # (rows, tail, vocabulary)
        tail = logits.shape[1]
        ids = torch.tensor([texts[i][-tail:] for i in passed.texts], device=logits.device)
        counted = torch.tensor([counts[i] for i in passed.texts], device=logits.device)
        before = torch.arange(tail, device=logits.device) < tail - counted[:, None]
        log = torch.log_softmax(logits.float(), dim=-1).gather(2, ids[..., None]).squeeze(2)
        right = (logits.argmax(dim=-1) == ids) | before
        at = passed.plans, passed.texts
        likely[at] = log.double().masked_fill(before, 0.0).sum(dim=1).cpu().numpy()
        said[at] = right.all(dim=1).cpu().numpy()
    like = same_plans(plans)
    return likely[like], said[like]
