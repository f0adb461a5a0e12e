"""Facets of a unit: clusters of the contexts in which it is most active.

A context is the bag of the tokens up to the one with the largest activity, weighted by how few of
the contexts have them (tf-idf, Salton and Buckley 1988). Contexts are joined by average linkage of
their cosine distances and cut where the silhouette (Rousseeuw 1987) is largest. Any contexts can be
cut, so the cut must be cleaner than that of contexts whose tokens were exchanged among each other:
else there is one facet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import average, fcluster
from scipy.spatial.distance import squareform
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.metrics import silhouette_score

DRAWS = 19
"""Exchanges of tokens: with so many, a cut that is cleaner than all of them has p = .05."""

LEAST = 6
"""Contexts that can have more than one facet."""


def facets_of(contexts: Sequence[np.ndarray], most: int, seed: int) -> np.ndarray:
    """Sort contexts into facets.

    Parameters
    ----------
    contexts : sequence of ndarray of shape (n_tokens,), int
        Tokens of each, the last one that of the largest activity; the strongest first.
    most : int
        Facets, at most.
    seed : int
        Of the exchanges.

    Returns
    -------
    ndarray of shape (n_contexts,), int64
        Facet of each, numbered from 0 in the order of their strongest context.
    """
    count = len(contexts)
    alike = np.zeros(count, dtype=np.int64)
    if count < LEAST or most < 2:
        return alike
    counts = _counts(contexts)
    found, cleanest = _best_cut(counts, most)
    if found is None:
        return alike
    rng = np.random.default_rng([seed, 71])
    for _ in range(DRAWS):
        exchanged = rng.permuted(counts, axis=0)
        if _best_cut(exchanged, most)[1] >= cleanest:
            return alike
    order = dict.fromkeys(found.tolist())
    numbers = {label: number for number, label in enumerate(order)}
    return np.array([numbers[label] for label in found.tolist()], dtype=np.int64)


def _counts(contexts: Sequence[np.ndarray]) -> np.ndarray:
    """How often each context has each token: array of shape (n_contexts, n_tokens), float64."""
    tokens, codes = np.unique(np.concatenate(contexts), return_inverse=True)
    counts = np.zeros((len(contexts), len(tokens)))
    rows = np.repeat(np.arange(len(contexts)), [len(own) for own in contexts])
    np.add.at(counts, (rows, codes), 1)
    return counts


def _best_cut(counts: np.ndarray, most: int) -> tuple[np.ndarray | None, float]:
    """Labels of the cut with the largest silhouette, and that; None where there is no cut."""
    vectors = TfidfTransformer().fit_transform(counts).toarray()
    distances = np.clip(1 - vectors @ vectors.T, 0, None)
    np.fill_diagonal(distances, 0)
    tree = average(squareform(distances, checks=False))
    best, cleanest = None, -np.inf
    for number in range(2, min(most, len(counts) - 1) + 1):
        labels = fcluster(tree, number, criterion="maxclust")
        if len(np.unique(labels)) < 2:
            continue
        clean = float(silhouette_score(distances, labels, metric="precomputed"))
        if clean > cleanest:
            best, cleanest = labels, clean
    return best, cleanest
