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
from scipy.cluster.hierarchy import average, cut_tree
from scipy.spatial.distance import squareform
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.metrics import silhouette_score

DRAWS = 19
"""Exchanges of tokens: with so many, a cut that is cleaner than all of them has p = .05."""

LEAST = 6
"""Contexts that can have more than one facet."""

TRIED = 6
"""Clusters that the test tries, however few are asked for: four kinds are no clean two."""


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
    cuts = _cuts(counts, max(TRIED, most))
    cleanest = max(clean for _, clean in cuts.values())
    rng = np.random.default_rng([seed, 71])
    for _ in range(DRAWS):
        exchanged = _cuts(rng.permuted(counts, axis=0), max(TRIED, most))
        if max(clean for _, clean in exchanged.values()) >= cleanest:
            return alike
    found, _ = max((cuts[number] for number in cuts if number <= most), key=lambda cut: cut[1])
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


def _cuts(counts: np.ndarray, most: int) -> dict[int, tuple[np.ndarray, float]]:
    """Labels and silhouette by number of clusters."""
    vectors = TfidfTransformer().fit_transform(counts).toarray()
    distances = np.clip(1 - vectors @ vectors.T, 0, None)
    np.fill_diagonal(distances, 0)
    tree = average(squareform(distances, checks=False))
    numbers = range(2, min(most, len(counts) - 1) + 1)
    # Contexts that share no word are all equally far apart: such ties are cut in the order given.
    labels = cut_tree(tree, n_clusters=list(numbers))
    return {
        number: (own, float(silhouette_score(distances, own, metric="precomputed")))
        for number, own in zip(numbers, labels.T, strict=True)
    }
