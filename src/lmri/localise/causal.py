"""Causal maps of a contrast, on the same path from score to finding as the others.

:mod:`lmri.localise.attribution` scores units by what patching them does to a logit difference.
Here these maps get the names of units, findings, and sham maps: the same attribution between trials
of null carriers that play the conditions. Between such trials there is no gap to be recovered, so a
map that is to be put to the test must be in logits, as its sham maps are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr

from lmri.anatomy import Subject
from lmri.config import CausalOptions, ContrastOptions
from lmri.errors import EvidenceError
from lmri.intervene import KINDS, Unit
from lmri.localise.attribution import AttributionOptions, attribution_maps
from lmri.localise.design import Design, null_splits, sham_labels
from lmri.localise.measures import has_units
from lmri.localise.shams import TRIES
from lmri.localise.units import ROUNDING, Units, ranked

CONDITIONAL = ("expert", "expert_neuron", "neuron", "shared_neuron")
"""Kinds that only some subjects have; they are left out of the others."""

RENAMED = {"residual": "residual_site"}
"""Attributed kinds whose units are another kind than interventions call by that name."""

LEAST_SAMPLE = 3
"""Units patched for the agreement of a sham map, which nobody looks at."""


@dataclass(frozen=True)
class CausalMap:
    """A map by attribution, see :class:`lmri.localise.findings.Selection`.

    Attributes
    ----------
    statistics : Dataset
        Over the dimensions of the units: ``score``, ``t``, ``p``, ``p_max``, ``q``, ``rank`` …
    kind, method : str
        Kind of the units and method of the attribution.
    subject : Subject
        The subject.
    contrast : ContrastOptions
        The contrast.
    design : Design
        Its design, to split null carriers.
    options : AttributionOptions
        How the map was made.
    """

    statistics: xr.Dataset
    kind: str
    method: str
    subject: Subject
    contrast: ContrastOptions
    design: Design
    options: AttributionOptions

    @property
    def units(self) -> Units:
        """All units."""
        score = self.statistics["score"]
        # Places have names in a map, and their numbers in the name of a unit.
        values = {d: range(n) if d == "place" else score[d].values for d, n in score.sizes.items()}
        return Units(self.kind, {dim: tuple(int(i) for i in own) for dim, own in values.items()})

    @property
    def strength(self) -> np.ndarray:
        """Effects by which units are ranked."""
        return self.statistics["score"].values

    @property
    def load(self) -> np.ndarray:
        """Magnitude of the effect: an attribution knows no other activity."""
        return np.abs(self.statistics["score"].values)

    def selected(self, alpha: float) -> list[Unit]:
        """Units that push the clean answer beyond the max-statistic, the largest effect first.

        Parameters
        ----------
        alpha : float
            Level of the max-statistic.

        Returns
        -------
        list of tuple of int
            Their coordinates.
        """
        score = self.statistics["score"].values.reshape(-1)
        chosen = (score > ROUNDING) & (self.statistics["p_max"].values.reshape(-1) <= alpha)
        order = ranked(score)
        return self.units.named(order[chosen[order]])

    def described(self, units: Sequence[Unit]) -> list[dict]:
        """Coordinates of units with their numbers."""
        names = ("score", "standard_error", "t", "p_max", "q")
        return self.units.described(units, {name: self.statistics[name].values for name in names})

    def shams(
        self,
        trials: pd.DataFrame,
        condition: str | None,
        *,
        draws: int,
        most: int,
        seed: int,
        usable: Callable[[list[Unit]], bool] = lambda units: True,
    ) -> list[list[Unit]]:
        """Re-run the attribution on null carriers, see :func:`lmri.localise.shams.sham_maps`.

        A split whose trials cannot be paired is passed over.
        """
        possible = null_splits(self.design, trials, condition)
        rng = np.random.default_rng([seed, 5])
        seen: set[bytes] = set()
        maps: list[list[Unit]] = []
        for _ in range(draws * TRIES):
            if len(maps) == draws or len(seen) == possible:
                break
            labels = sham_labels(self.design, trials, trials, condition, rng)
            if labels.tobytes() in seen:
                continue
            seen.add(labels.tobytes())
            units = self._sham(trials, labels, seed)[:most]
            if units and usable(units):
                maps.append(units)
        return maps

    def _sham(self, trials: pd.DataFrame, labels: np.ndarray, seed: int) -> list[Unit]:
        played = trials[labels >= 0].reset_index(drop=True)
        names = np.array(self.design.conditions)[labels[labels >= 0]]
        try:
            maps = attribution_maps(
                self.subject,
                played.assign(condition=names),
                self.contrast.target,
                self.contrast.controls,
                self.options,
                seed,
                f"a sham map of '{self.contrast.name}'",
            )
        except EvidenceError:
            return []
        (statistics,) = maps.values()
        score = statistics["score"].values.reshape(-1)
        # As many units as the finding's, whatever their sign: a smaller dose would be no control.
        # But what did nothing in any pair is never selected, and stands behind all that did.
        idle = np.abs(score) <= ROUNDING
        return self.units.named(ranked(np.where(idle, -np.inf, score)))


def causal_maps(
    subject: Subject,
    trials: pd.DataFrame,
    contrast: ContrastOptions,
    design: Design,
    options: CausalOptions,
    seed: int,
    permutations: int = 2000,
) -> Iterator[tuple[str, xr.Dataset, CausalMap | None]]:
    """Make the causal maps of a contrast.

    Parameters
    ----------
    subject : Subject
        The subject.
    trials : DataFrame
        Selection trials of the task.
    contrast : ContrastOptions
        Targets are the clean trials, controls the corrupted ones.
    design : Design
        Design of the contrast.
    options : CausalOptions
        Methods, kinds and pairs.
    seed : int
        Seed of the study.
    permutations : int
        Changes of sign of the inference.

    Yields
    ------
    name : str
        ``<kind>.<method>``, or ``<place>_by_role.<method>``; whole states of the residual are of
        the kind ``residual_site``.
    statistics : Dataset
        The map, over the dimensions of its units.
    selection : CausalMap or None
        What it selects; None for maps by role and of what no intervention switches off.

    Raises
    ------
    LmriError
        Naming what is wrong, see :func:`lmri.localise.attribution.attribution_maps`.
    """
    kinds = tuple(k for k in options.kinds if k not in CONDITIONAL or has_units(k, subject.anatomy))
    asked = replace(_attribution_options(options), kinds=kinds, permutations=permutations)
    owner = f"contrast '{contrast.name}'"
    maps = attribution_maps(subject, trials, contrast.target, contrast.controls, asked, seed, owner)
    for name, data in maps.items():
        attributed, _, method = name.partition(".")
        kind = RENAMED.get(attributed, attributed)
        statistics = name_units(data, kind, subject)
        tested = "p_max" in statistics  # patching is tested where both directions are asked for
        if not tested or kind not in KINDS:
            yield f"{kind}.{method}", statistics, None
            continue
        alone = replace(
            asked,
            methods=(method,),
            kinds=(attributed,),
            role_kinds=(),
            metric="logit_difference",
            sample=LEAST_SAMPLE,
            permutations=1,
        )
        selection = CausalMap(statistics, kind, method, subject, contrast, design, alone)
        yield f"{kind}.{method}", statistics, selection


def name_units(data: xr.Dataset, kind: str, subject: Subject) -> xr.Dataset:
    """Give the units of an attribution the coordinates of their kind.

    Parameters
    ----------
    data : Dataset
        With the dimensions ``layer`` and ``unit``.
    kind : str
        Kind of the units; others than those of interventions stay as they are.
    subject : Subject
        Of which they are.

    Returns
    -------
    Dataset
        With ``unit`` split into the dimensions of the kind.
    """
    if kind not in KINDS or "unit" not in data.dims:
        return data
    names, shape = KINDS[kind].parts, KINDS[kind].shape(subject.anatomy)
    variables = {}
    for name, values in data.data_vars.items():
        if "unit" not in values.dims:
            variables[name] = values
            continue
        at = values.dims.index("unit")
        split = values.shape[:at] + shape + values.shape[at + 1 :]
        dims = (*values.dims[:at], *names, *values.dims[at + 1 :])
        variables[name] = (dims, values.values.reshape(split))
    coords = {name: own for name, own in data.coords.items() if "unit" not in own.dims}
    coords |= {name: np.arange(size) for name, size in zip(names, shape, strict=True)}
    if kind == "residual_site":
        coords["place"] = np.array(subject.anatomy.places, dtype=object)
    own = {"kind": kind} if "kind" in data.attrs else {}
    return xr.Dataset(variables, coords, {**data.attrs, **own})


def _attribution_options(options: CausalOptions) -> AttributionOptions:
    return AttributionOptions(
        methods=options.methods,
        kinds=options.kinds,
        role_kinds=options.role_kinds,
        position=options.position,
        correct=options.correct,
        wrong=options.wrong,
        metric=options.metric,
        most_pairs=options.pairs,
        sample=options.sample,
        most_patched=options.most_patched,
    )
