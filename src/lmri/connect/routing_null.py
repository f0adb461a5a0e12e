r"""Routing without connections: experts of one layer exchanged, with loads and choices kept.

Each token chooses k experts, so two experts of a layer cannot both be chosen as often as if they
were free: their correlation is negative without any connection, about -1 / (n_experts - 1) at equal
loads and more for experts that are chosen often. A correlation must therefore be compared with what
the choices alone make of it. Two things are kept in every draw:

- **each token's number of chosen experts**, exactly, since an expert is never added or taken away:
  within an entity (all trials of one place) two experts exchange their names;
- **each expert's load**, the tokens that choose it, within :data:`TOLERANCE` (exactly, where an
  entity is one token: then this is the checkerboard swap of a binary matrix with fixed margins).

Loads are kept because experts that are always on would else be compared with ones that are not, and
because no connection is needed for a load: a null that moves it would find "connections" between
all popular experts. Whole entities change names because trials that share a place choose alike:
exchanging single trials gives a null that is too narrow by the number of trials of a place. What is
lost is which experts are chosen for the same entities, and that is what a connection is.

Draws are chains of swaps, each proposed as often as its reverse, so that all assignments that can
be reached are equally likely. ``moved`` says how far from the recorded ones
the chains came.

References
----------
E. F. Connor and D. Simberloff, The assembly of species communities: chance or competition?,
Ecology 60 (1979); N. J. Gotelli, Null model analysis of species co-occurrence patterns, Ecology 81
(2000): fixed row and column sums, sampled by swaps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmri.checks import check_range
from lmri.errors import EvidenceError

TOLERANCE = 0.05
"""Share of its load by which an expert may be chosen more or less often in a draw.

Wider, chains move more freely, and what trials share by another carrier is lost. With 8 experts, 12
places crossed with 8 years and no connection, 5 % of the edges have a p up to .05, and one edge has
a p_max up to .05 in 2 of 40 subjects (99 draws).
"""

SWEEPS = 16
"""Swaps that are tried for every expert that an entity chooses."""

ALONE = 0.25
"""Share of the swaps that are tried within one entity alone, which the tolerance allows."""


@dataclass(frozen=True)
class RoutingShuffle:
    """Names of experts in each draw, layer and entity.

    Attributes
    ----------
    names : ndarray of shape (draws, n_layers, n_entities, n_experts), int16
        For every name the recorded expert whose choices it gets.
    entity : ndarray of shape (n_trials,), int64
        Entity of each trial.
    moved : ndarray of shape (n_layers,)
        1 less the mean correlation of the loads of entities, around those of their expert, in a
        draw and as recorded: 1 where nothing is left of who chooses what, 0 where nothing moved.
    """

    names: np.ndarray
    entity: np.ndarray
    moved: np.ndarray

    def draw(self, number: int, values: np.ndarray) -> np.ndarray:
        """Rename the experts of each trial.

        Parameters
        ----------
        number : int
            Which draw.
        values : ndarray of shape (n_trials, n_layers, n_experts)
            Activity.

        Returns
        -------
        ndarray of shape (n_trials, n_layers, n_experts)
            Activity by new name.
        """
        own = self.names[number].transpose(1, 0, 2)[self.entity].astype(np.int64)
        return np.take_along_axis(values, own, axis=2)


def routing_shuffle(
    counts: np.ndarray,
    entity: np.ndarray,
    draws: int,
    seed: int,
    *,
    strata: np.ndarray | None = None,
    sweeps: int = SWEEPS,
) -> RoutingShuffle:
    """Draw routings without connections.

    Parameters
    ----------
    counts : ndarray of shape (n_trials, n_layers, n_experts)
        Tokens of each trial that choose each expert.
    entity : ndarray of shape (n_trials,), int64
        Entity of each trial, numbered from 0.
    draws, seed : int
        Number of draws, and their seed.
    strata : ndarray of shape (n_entities,), int64, optional
        Loads are kept within each stratum (entities of the same conditions); by default over all.
    sweeps : int
        See :data:`SWEEPS`.

    Returns
    -------
    RoutingShuffle
        The draws.

    Raises
    ------
    EvidenceError
        If there are fewer than 2 entities, or trials choose different numbers of experts.
    """
    check_range(draws, "draws", "the routing shuffle", 1, error=EvidenceError)
    n_entities = int(entity.max(initial=-1)) + 1
    if n_entities < 2:
        raise EvidenceError(
            f"A routing shuffle must have 2 entities or more to exchange. Got {n_entities} in "
            f"{len(counts)} trials."
        )
    total = np.zeros((n_entities, *counts.shape[1:]))
    np.add.at(total, entity, counts)
    strata = np.zeros(n_entities, dtype=np.int64) if strata is None else strata
    names, moved = [], []
    for layer in range(counts.shape[1]):
        rng = np.random.default_rng([seed, layer])
        own = _chains(total[:, layer], strata, draws, sweeps, rng)
        moved.append(1 - _likeness(own, total[:, layer]))
        names.append(own.astype(np.int16))
    return RoutingShuffle(np.stack(names, axis=1), entity, np.array(moved))


def strata_of(entity: np.ndarray, conditions: np.ndarray) -> np.ndarray:
    """Number entities by the set of conditions of their trials.

    Parameters
    ----------
    entity : ndarray of shape (n_trials,), int64
        Entity of each trial.
    conditions : ndarray of shape (n_trials,)
        Condition of each.

    Returns
    -------
    ndarray of shape (n_entities,), int64
        The same number for the same conditions.
    """
    count = int(entity.max()) + 1
    sets = [tuple(sorted(set(conditions[entity == i]))) for i in range(count)]
    number = {own: i for i, own in enumerate(sorted(set(sets)))}
    return np.array([number[own] for own in sets], dtype=np.int64)


def _likeness(names: np.ndarray, load: np.ndarray) -> float:
    """Correlate loads in the draws with the recorded ones, over entities and experts that vary."""
    recorded = load - load.mean(axis=0)
    likeness = 0.0
    for own in names:
        drawn = np.take_along_axis(load, own, axis=1)
        drawn = drawn - drawn.mean(axis=0)
        sizes = np.linalg.norm(drawn) * np.linalg.norm(recorded)
        likeness += np.vdot(drawn, recorded) / sizes if sizes else 1.0
    return likeness / len(names)


def _chains(
    load: np.ndarray, strata: np.ndarray, draws: int, sweeps: int, rng: np.random.Generator
) -> np.ndarray:
    """Run one chain of swaps per draw: names of shape (draws, n_entities, n_experts)."""
    n_entities, n_experts = load.shape
    n_strata = int(strata.max()) + 1
    target = np.zeros((n_strata, n_experts))
    np.add.at(target, strata, load)
    allowed = np.floor(TOLERANCE * target)
    names = np.tile(np.arange(n_experts), (draws, n_entities, 1))  # name -> recorded expert
    place = names.copy()  # recorded expert -> name
    now = np.tile(target, (draws, 1, 1))
    active = [np.flatnonzero(own) for own in load]
    widths = np.array([len(own) for own in active])
    if not widths.min():
        raise EvidenceError(
            "Every entity of a routing shuffle must choose an expert. One has none."
        )
    listed = np.stack([np.resize(own, widths.max()) for own in active])
    mates = [np.flatnonzero(strata == own) for own in range(n_strata)]
    mate_of = np.stack([np.resize(mates[own], n_entities) for own in strata])
    mate_count = np.array([len(mates[own]) for own in strata])
    chain = np.arange(draws)
    for _ in range(sweeps * int(widths.sum())):
        a = rng.integers(n_entities, size=draws)
        b = mate_of[a, rng.integers(mate_count[a])]
        b = np.where(rng.random(draws) < ALONE, a, b)
        alone = a == b
        i = place[chain, a, listed[a, rng.integers(widths[a])]]
        j = place[chain, b, listed[b, rng.integers(widths[b])]]
        j = np.where(alone, rng.integers(n_experts, size=draws), j)
        ai, aj = names[chain, a, i], names[chain, a, j]
        bi, bj = names[chain, b, i], names[chain, b, j]
        change = load[a, aj] - load[a, ai] + np.where(alone, 0, load[b, bj] - load[b, bi])
        own = strata[a]
        new_i, new_j = now[chain, own, i] + change, now[chain, own, j] - change
        fits = (np.abs(new_i - target[own, i]) <= allowed[own, i]) & (
            np.abs(new_j - target[own, j]) <= allowed[own, j]
        )
        taken = np.flatnonzero(fits & (i != j))
        d, i, j, own = taken, i[taken], j[taken], own[taken]
        now[d, own, i], now[d, own, j] = new_i[taken], new_j[taken]
        for entity, first, second in (
            (a[taken], ai[taken], aj[taken]),
            (b[taken], bi[taken], bj[taken]),
        ):
            # Within one entity both rounds write the same swap.
            names[d, entity, i], names[d, entity, j] = second, first
            place[d, entity, second], place[d, entity, first] = i, j
    return names
