"""Tables and figures of relation-specific units."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from lmri.experiment.outcome import Drawn
from lmri.experiment.relations.losses import Chosen, Losses, Setting
from lmri.experiment.unit_sets import every_unit
from lmri.intervene import KINDS
from lmri.localise.overlap import overlap_table
from lmri.validate.statistics import rank_p


def relation_tables(setting: Setting, chosen: Chosen, losses: Losses) -> dict[str, pd.DataFrame]:
    """Tabulate what relations lose without units of one kind.

    Parameters
    ----------
    setting, chosen, losses : Setting, Chosen, Losses
        What was asked, and what came of it.

    Returns
    -------
    dict of str to DataFrame
        ``<kind>_matrix``, ``<kind>_doses``, ``<kind>_units`` and ``<kind>_shared``.
    """
    units = every_unit(setting.ground, setting.kind).size
    sets = {name: own[: chosen.dose] for name, own in setting.ranking.items()}
    tables = {
        "matrix": _matrix(setting, chosen.dose, losses),
        "doses": _doses(setting, losses),
        "units": pd.DataFrame(
            [
                {"relation": name, "rank": rank, "unit": json.dumps(list(unit))}
                for name, own in setting.ranking.items()
                for rank, unit in enumerate(own)
            ]
        ),
        "shared": overlap_table(sets, units),
    }
    return {f"{setting.kind}_{name}": own for name, own in tables.items()}


def relation_captions(kind: str) -> dict[str, str]:
    """Say what the tables of one kind of units hold, by table."""
    return {f"{kind}_{name}": text.format(KINDS[kind].plural) for name, text in CAPTIONS.items()}


def _matrix(setting: Setting, dose: int, losses: Losses) -> pd.DataFrame:
    """Loss of every relation without the units of every other."""
    rows = []
    for owner, whose in enumerate(setting.relations):
        for other, asked in enumerate(setting.relations):
            at = np.flatnonzero(losses.relation == other)
            effect = losses.asked.change(losses.of[dose][owner, at], at).effect
            random = losses.random[dose][:, owner, other]
            rows.append(
                {
                    "units_of": whose,
                    "relation": asked,
                    "dose": dose,
                    "intact": losses.asked.intact.probability[0, at].mean(),
                    "loss": effect.mean,
                    "low": effect.low,
                    "high": effect.high,
                    "exact_intact": losses.asked.intact.exact[0, at].mean(),
                    "exact_loss": losses.exact[dose][owner, at].mean(),
                    "random": random.mean() if len(random) else np.nan,
                    "p": rank_p(effect.mean, random),
                    "n": effect.n,
                    "n_carriers": effect.n_carriers,
                }
            )
    return pd.DataFrame(rows)


def _doses(setting: Setting, losses: Losses) -> pd.DataFrame:
    """Loss of the relations without more and more of their own units, or of others."""
    rows = []
    for dose in setting.doses:
        exact = losses.exact[dose][losses.relation, np.arange(len(losses.relation))]
        for whose, fall in (("own", losses.own(dose)), ("others", losses.others(dose))):
            effect = losses.asked.change(fall).effect
            rows.append(
                {
                    "units_of": whose,
                    "dose": dose,
                    "loss": effect.mean,
                    "low": effect.low,
                    "high": effect.high,
                    "exact_loss": exact.mean() if whose == "own" else np.nan,
                    "n": effect.n,
                    "n_carriers": effect.n_carriers,
                }
            )
        if dose in losses.random and len(losses.random[dose]):
            low, high = np.quantile(losses.random_own(dose), [0.025, 0.975])
            mean = losses.random_own(dose).mean()
            rows.append(
                {"units_of": "random", "dose": dose, "loss": mean, "low": low, "high": high}
            )
    return pd.DataFrame(rows)


def relation_figures(kind: str) -> list[Drawn]:
    """Declare the figures of one kind of units.

    Parameters
    ----------
    kind : str
        The kind.

    Returns
    -------
    list of Drawn
        Of its tables.
    """
    plural = KINDS[kind].plural
    return [
        Drawn(
            table=f"{kind}_matrix",
            kind="heat",
            x="relation",
            y="units_of",
            low=None,
            high=None,
            series="loss",
            title=f"What relations lose without {plural} of each",
            caption="Specific units show as a dark diagonal.",
            against=(
                "A dark column is a relation that any damage ends, a dark row are units that all "
                "relations need."
            ),
        ),
        Drawn(
            table=f"{kind}_doses",
            kind="line",
            x="dose",
            y="loss",
            low="low",
            high="high",
            series="units_of",
            title=f"More {plural}, more loss",
            caption="Cumulative units rise from left to right above random sets.",
            against="Where those of other relations rise as much, the units are not specific.",
        ),
    ]


CAPTIONS = {
    "matrix": (
        "Fall of the probability of the right answer of every relation (relation) without the "
        "{} of every relation (units_of), on evaluation trials, with its interval over carriers; "
        "beside it exact answers, the mean fall under random sets, and the rank p of a single pair "
        "among them."
    ),
    "doses": (
        "The same by number of {}: of the relation itself (own), of the others (others), and "
        "random sets in the layers of the own ones (random: mean, and where 95 % of the draws "
        "lie)."
    ),
    "units": "The {} of every relation, from the best, as [layer, ...].",
    "shared": (
        "The {} that pairs of relations share at the dose, and the probability that random sets "
        "of any layers share as many."
    ),
}
"""By table, with a place for the kind of units in words."""
