"""What each band adds: variance that is a band's own, and that two bands share.

Every quantity is held-out R² beyond the nuisance bands ``N``, which are in all models::

    beyond     = R²(N + all) - R²(N)
    unique_b   = R²(N + all) - R²(N + all but b)
    alone_b    = R²(N + b) - R²(N)
    shared_a,b = R²(N + a) + R²(N + b) - R²(N + a + b) - R²(N)

Held-out values may be negative: a model that overfits predicts worse than a smaller one. ``shared``
is negative where two bands tell more together than each alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lmri.encode.bands import Layout
from lmri.encode.folds import Folds
from lmri.encode.moments import Moments
from lmri.encode.ridge import Search
from lmri.encode.scores import Scores, held_out_scores


@dataclass(frozen=True)
class Partition:
    """Variance by band, of every unit.

    Attributes
    ----------
    full : Scores
        The model of all bands.
    nuisance : ndarray of shape (n_units,), float64
        R² of the nuisance bands; 0 where there are none.
    unique, alone : ndarray of shape (n_interest, n_units), float64
        By band of interest.
    pairs : tuple of (str, str)
        Pairs of bands of interest.
    shared : ndarray of shape (n_pairs, n_units), float64
        By pair.
    """

    full: Scores
    nuisance: np.ndarray
    unique: np.ndarray
    alone: np.ndarray
    pairs: tuple[tuple[str, str], ...]
    shared: np.ndarray


def partition(moments: Moments, folds: Folds, search: Search, layout: Layout) -> Partition:
    """Fit every model that the variance of bands follows from.

    Parameters
    ----------
    moments : Moments
        Sums of the full design.
    folds : Folds
        The folds.
    search : Search
        What is tried; models of fewer bands are searched over their part of it.
    layout : Layout
        The bands.

    Returns
    -------
    Partition
        Of every unit.
    """
    interest, base = layout.of_role("interest"), layout.of_role("nuisance")
    full = held_out_scores(moments, folds, search, layout.sizes)
    known: dict[frozenset[str], np.ndarray] = {frozenset(layout.names): full.r2}

    def explained(bands: Sequence[str]) -> np.ndarray:
        key = frozenset([*base, *bands])
        if key not in known:
            known[key] = _explained(moments, folds, search, layout, key)
        return known[key]

    nuisance = explained(())
    unique = [full.r2 - explained([own for own in interest if own != band]) for band in interest]
    alone = [explained([band]) - nuisance for band in interest]
    pairs = tuple(combinations(interest, 2))
    shared = [
        explained([first]) + explained([second]) - explained([first, second]) - nuisance
        for first, second in pairs
    ]
    empty = np.zeros((0, moments.units))
    return Partition(
        full,
        nuisance,
        np.stack(unique),
        np.stack(alone),
        pairs,
        np.stack(shared) if pairs else empty,
    )


def _explained(
    moments: Moments, folds: Folds, search: Search, layout: Layout, bands: frozenset[str]
) -> np.ndarray:
    """R² of some of the bands."""
    if not bands:
        return np.zeros(moments.units)
    places = [place for place, name in enumerate(layout.names) if name in bands]
    columns = np.concatenate(
        [np.arange(own.start, own.stop) for own in (layout.slices[layout.names[i]] for i in places)]
    )
    sizes = [layout.sizes[place] for place in places]
    return held_out_scores(moments.of(columns), folds, search.of(places), sizes).r2
