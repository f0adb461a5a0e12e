"""Coherence: whether a response is still language, so that a broken subject is no success.

Three parts, all fixed on calibration trials before the evaluation: the mean log-probability that
the *intact* subject gives the response, the longest run of one token, and whether the response
ended. The first token is left out of the log-probability: it is the decision that an intervention
is meant to change, and the intact subject would of course have decided otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lmri.anatomy import Subject, equal_length_batches


@torch.inference_mode()
def response_log_probability(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[np.ndarray],
    rows: int,
) -> np.ndarray:
    """Mean log-probability of each response's tokens after the first, under the intact subject.

    ``mean_{t >= 1} log p(r_t | prompt, r_0 .. r_{t-1})``

    Parameters
    ----------
    subject : Subject
        The subject, without interventions.
    prompts : sequence of sequence of int
        Token ids of the prompts.
    responses : sequence of ndarray
        Token ids of the responses.
    rows : int
        Rows per forward pass, at most.

    Returns
    -------
    ndarray of shape (n_rows,), float64
        In nats; NaN for a response of a single token.
    """
    texts = [[*p, *r.tolist()] for p, r in zip(prompts, responses, strict=True)]
    means = np.full(len(texts), np.nan)
    for batch in equal_length_batches([len(text) for text in texts], rows):
        ids = torch.tensor([texts[row] for row in batch], device=subject.device)
        logits = subject.model(input_ids=ids, use_cache=False).logits[:, :-1]
        said = torch.log_softmax(logits.float(), dim=-1).gather(2, ids[:, 1:, None]).squeeze(2)
        for line, row in zip(said.double().cpu().numpy(), batch, strict=True):
            after_first = line[len(prompts[row]) :]
            means[row] = after_first.mean() if len(after_first) else np.nan
    return means


def longest_run(tokens: np.ndarray) -> int:
    """Length of the longest run of one token.

    Parameters
    ----------
    tokens : ndarray of shape (n_tokens,), int64
        A response.

    Returns
    -------
    int
        0 for an empty response.
    """
    if len(tokens) == 0:
        return 0
    changes = np.flatnonzero(np.diff(tokens)) + 1
    return int(np.diff(np.concatenate([[0], changes, [len(tokens)]])).max())


def coherent(
    log_probability: np.ndarray,
    responses: Sequence[np.ndarray],
    ended: np.ndarray,
    limits: dict[str, float],
) -> np.ndarray:
    """Whether each response passes the limits.

    Parameters
    ----------
    log_probability : ndarray of shape (n_rows,)
        From :func:`response_log_probability`; NaN fails.
    responses : sequence of ndarray
        Token ids of the responses.
    ended : ndarray of shape (n_rows,), bool
        Whether they ended by themselves.
    limits : dict
        ``log_probability`` (smallest, nats) and ``repeats`` (longest run of one token).

    Returns
    -------
    ndarray of shape (n_rows,), float64
        1. or 0.
    """
    runs = np.array([longest_run(response) for response in responses])
    likely = np.nan_to_num(log_probability, nan=-np.inf) >= limits["log_probability"]
    return (likely & (runs <= limits["repeats"]) & ended).astype(np.float64)
