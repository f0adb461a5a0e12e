"""Scores from log-probabilities: refusal by the first token, and a choice between given answers.

How a subject reads a prompt is for the caller to say: a reader gets rows and continuations and
gives the log-probability of every token, under whatever intervention the row is
(:func:`lmri.intervene.continuation_log_probabilities` is one for rows with plans).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Reader = Callable[[Sequence[int], Sequence[Sequence[int]]], list[np.ndarray]]
"""From numbers of responses and a continuation of each one's prompt (token ids) to the
log-probability of every token of the continuation, in nats."""


def refusal_log_odds(reader: Reader, starts: Sequence[Sequence[int]]) -> np.ndarray:
    """Log-odds that the first token is one that begins a refusal: ``log P - log(1 - P)``.

    ``P = sum_{t in R} p(t | prompt)`` over the set R of first tokens.

    Parameters
    ----------
    reader : callable
        See :data:`Reader`.
    starts : sequence of sequence of int
        First tokens of refusals, for every response; none for a trial that nothing is refused in.

    Returns
    -------
    ndarray of shape (n_responses,), float64
        In nats; NaN without a first token.

    Notes
    -----
    Arditi et al. 2024, Refusal in language models is mediated by a single direction
    (arXiv 2406.11717).
    """
    pairs = [(row, token) for row, own in enumerate(starts) for token in dict.fromkeys(own)]
    found = reader([row for row, _ in pairs], [[token] for _, token in pairs]) if pairs else []
    total = np.full(len(starts), -np.inf)
    for (row, _), log in zip(pairs, found, strict=True):
        total[row] = np.logaddexp(total[row], log[0])
    # Rounding may take a sum of probabilities past 1.
    total = np.minimum(total, -np.finfo(np.float64).tiny)
    odds = total - np.log(-np.expm1(total))
    return np.where([len(own) > 0 for own in starts], odds, np.nan)


def choice_log_likelihoods(
    reader: Reader, choices: Sequence[Sequence[Sequence[int]]]
) -> list[np.ndarray]:
    """Log-likelihood of each of several answers: ``sum_t log p(c_t | prompt, c_{<t})``.

    Parameters
    ----------
    reader : callable
        See :data:`Reader`.
    choices : sequence of sequence of sequence of int
        Answers of every response as token ids, with the end token if they end there.

    Returns
    -------
    list of ndarray of shape (n_choices,), float64
        In nats. Not divided by the length: answers of unlike lengths are not alike a priori.
    """
    rows = [row for row, own in enumerate(choices) for _ in own]
    found = reader(rows, [answer for own in choices for answer in own]) if rows else []
    sums, start = np.array([log.sum() for log in found]), 0
    each = []
    for own in choices:
        each.append(sums[start : start + len(own)])
        start += len(own)
    return each


def forced_choice(likelihoods: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Whether the first answer is the likeliest, and by how much.

    Parameters
    ----------
    likelihoods : sequence of ndarray of shape (n_choices,)
        Log-likelihoods, of the right answer first.

    Returns
    -------
    right : ndarray of shape (n_responses,), float64
        1., or 0.; one over their number where several are the likeliest. NaN with fewer than two.
    margin : ndarray of shape (n_responses,), float64
        Log-likelihood of the first less the largest other, in nats. NaN with fewer than two.
    """
    right, margin = np.full((2, len(likelihoods)), np.nan)
    for row, own in enumerate(likelihoods):
        if len(own) > 1:
            margin[row] = own[0] - own[1:].max()
            best = own == own.max()
            right[row] = best[0] / best.sum()
    return right, margin
