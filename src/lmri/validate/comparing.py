"""Two subjects compared by the difference of their effects, trial by trial.

That an effect is significant in one subject and not in another does not mean that the two differ.
So the difference itself is estimated: the same trials are run in both, and what the finding's units
do to each of them is subtracted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from lmri.anatomy import describe, empty_model, read_configuration, resolve_pointer
from lmri.errors import EvidenceError, StoreError
from lmri.score import Effect, carrier_columns
from lmri.store import read_finding, read_table, write_table
from lmri.validate.change import Carriers, Change
from lmri.validate.rerun import LOGITS
from lmri.validate.statistics import holm

MOST_PAIRED = 6
"""Subjects of a lineage of which all pairs are compared; of more, each with the first."""

KEYS = ["contrast", "phase", "kind", "method"]
"""What names a finding within a subject."""


@dataclass(frozen=True)
class Comparison:
    """The effects of a finding's units in two subjects, on the same trials.

    Attributes
    ----------
    first, second, lineage : str
        The subjects, and what they have in common; empty where nothing is known of it.
    contrast, phase, kind, method : str
        Which findings.
    task, condition, trial_role, score : str
        What was run, and how it was scored.
    n, n_carriers : int
        Trials; values of the carrier with the fewest.
    first_effect, first_low, first_high, second_effect, second_low, second_high : float
        Change of the score with the units off in each, with its interval.
    difference, low, high : float
        First minus second, with its interval.
    margin, alpha : float
        Of the rule of the first finding.
    p, p_corrected : float
        Of no difference; by Holm over all comparisons of the two subjects.
    outcome : str
        ``differ``, ``alike`` (the interval lies within the margin) or ``undecided``.
    """

    first: str
    second: str
    lineage: str
    contrast: str
    phase: str
    kind: str
    method: str
    task: str
    condition: str
    trial_role: str
    score: str
    n: int
    n_carriers: int
    first_effect: float
    first_low: float
    first_high: float
    second_effect: float
    second_low: float
    second_high: float
    difference: float
    low: float
    high: float
    margin: float
    alpha: float
    p: float
    p_corrected: float
    outcome: str


def compare_subjects(
    study: Path,
    first: str,
    second: str,
    *,
    resamples: int = 2000,
    seed: int = 0,
    any_lineage: bool = False,
) -> list[Comparison]:
    """Compare what the findings of two subjects do, on the same trials.

    Parameters
    ----------
    study : Path
        Folder of the study, ``results/<study>``.
    first, second : str
        Subjects.
    resamples, seed : int
        Bootstrap over carriers.
    any_lineage : bool
        Whether subjects that are not known to be of one base may be compared.

    Returns
    -------
    list of Comparison
        Of every finding that was tested in both: the target first, then the bystanders.

    Raises
    ------
    EvidenceError
        If the subjects are the same, of other anatomies or lineages, were run on other trials, or
        have no finding in common that was tested.
    StoreError
        If a file is not there.
    """
    if first == second:
        raise EvidenceError(f"The subjects of a comparison must be two. Got '{first}' twice.")
    _check_anatomy(study, first, second)
    lineage = _lineage(study, first, second)
    if not lineage and not any_lineage:
        raise EvidenceError(
            f"{study}: the subjects of a comparison must be of one base, as their cards say. "
            f"Got '{first}' and '{second}', of which that is not known: give --any-lineage to "
            "compare them all the same."
        )
    tables = [_effects_of(study, name) for name in (first, second)]
    common = [own for own in tables[0] if own in tables[1]]
    if not common:
        raise EvidenceError(
            f"{study}: no finding was tested in both '{first}' and '{second}'. Only what was run "
            "in both can be compared."
        )
    found = []
    for key in common:
        trials = tables[0][key], tables[1][key]
        found += _compare(study, (first, second), lineage, key, trials, (resamples, seed))
    corrected = holm([own.p for own in found])
    return [_decided(replace(own, p_corrected=p)) for own, p in zip(found, corrected, strict=True)]


def compare_lineages(
    study: Path, subjects: Sequence[str], *, resamples: int, seed: int
) -> list[Comparison]:
    """Compare all subjects of one base with each other.

    Parameters
    ----------
    study : Path
        Folder of the study.
    subjects : sequence of str
        Subjects of the study, in their order.
    resamples, seed : int
        Bootstrap over carriers.

    Returns
    -------
    list of Comparison
        Of every pair that has a tested finding in common; of a lineage with more than
        :data:`MOST_PAIRED` subjects, each with the first.
    """
    families: dict[str, list[str]] = {}
    for name in subjects:
        base = _base(study, name)
        if base and _effects_of(study, name):
            families.setdefault(base, []).append(name)
    found = []
    for names in families.values():
        pairs = list(combinations(names, 2))
        if len(names) > MOST_PAIRED:
            pairs = pairs[: len(names) - 1]
        for pair in pairs:
            if any(key in _effects_of(study, pair[1]) for key in _effects_of(study, pair[0])):
                found += compare_subjects(study, *pair, resamples=resamples, seed=seed)
    return found


def write_comparisons(
    *, study: Path, subjects: Sequence[str], out: Path, resamples: int, seed: int, provenance: dict
) -> None:
    """Write the comparisons of all subjects of one base.

    Parameters
    ----------
    study : Path
        Folder of the study.
    subjects : sequence of str
        Its subjects.
    out : Path
        Table to write.
    resamples, seed : int
        Bootstrap over carriers.
    provenance : dict
        Kept in the table.
    """
    found = compare_lineages(study, subjects, resamples=resamples, seed=seed)
    table = comparison_table(found)
    table.attrs["provenance"] = json.dumps(provenance)
    write_table(out, table)


def comparison_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Comparisons as a table, with its columns also where there is none."""
    return pd.DataFrame(
        [asdict(own) for own in comparisons], columns=list(Comparison.__dataclass_fields__)
    )


def comparison_lines(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Tell comparisons to people.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Of one pair of subjects.

    Yields
    ------
    str
        A line each.
    """
    own = comparisons[0]
    lineage = f"of one base ({own.lineage})" if own.lineage else "of unknown lineage"
    yield f"{own.first} and {own.second}, {lineage}: what the units of each do to the same trials"
    for own in comparisons:
        place = f"{own.task}, {own.condition}".removesuffix(", all")
        yield (
            f"{own.contrast} ({own.kind}.{own.method}), {own.trial_role} {place}, {own.score}: "
            f"{_told(own.first_effect, own.first_low, own.first_high)} against "
            f"{_told(own.second_effect, own.second_low, own.second_high)}; difference "
            f"{_told(own.difference, own.low, own.high)}, p {own.p_corrected:.3g} over "
            f"{len(comparisons)}, n {own.n} ({own.n_carriers} carriers): {own.outcome}"
        )


def _compare(
    study: Path,
    names: tuple[str, str],
    lineage: str,
    key: tuple[str, ...],
    tables: tuple[pd.DataFrame, pd.DataFrame],
    bootstrap: tuple[int, int],
) -> Iterator[Comparison]:
    rule = _endpoint(study, names[0], key)
    places = ["task", "condition", "trial_role"]
    first, second = (dict(iter(own.groupby(places, sort=False))) for own in tables)
    for place, own in first.items():
        if place not in second or place[2] == "transfer":
            continue
        score = rule["score"] if place[2] == "target" else "exact"
        pair = _paired(own, second[place], score, names, place)
        table = read_table(study / "stimuli" / f"{place[0]}.parquet", ("trial",))
        trials = table.set_index("trial").loc[pair.index]
        carriers = Carriers(carrier_columns(trials), *bootstrap)
        changes = [
            Change(pair[column].to_numpy(), carriers, 1 - rule["alpha"], score != LOGITS)
            for column in ("first", "second")
        ]
        difference = changes[0] - changes[1]
        effect, (one, two) = difference.effect, (change.effect for change in changes)
        p = min(difference.p_above(0.0), difference.p_below(0.0))
        yield Comparison(
            *(*names, lineage, *key, *place, score, effect.n, effect.n_carriers),
            *(*_bounds(one), *_bounds(two), *_bounds(effect)),
            *(rule["margin"], rule["alpha"], p, p, ""),
        )


def _paired(
    first: pd.DataFrame,
    second: pd.DataFrame,
    score: str,
    names: tuple[str, str],
    place: tuple[str, ...],
) -> pd.DataFrame:
    """Change of the score of every trial in both subjects, by trial."""
    changes = []
    for own in (first, second):
        values = own.pivot(index="trial", columns="arm", values=score)
        changes.append(values["finding"] - values["intact"])
    if set(changes[0].index) != set(changes[1].index):
        only = len(set(changes[0].index) ^ set(changes[1].index))
        raise EvidenceError(
            f"'{names[0]}' and '{names[1]}' must be run on the same trials of {place[0]}, "
            f"{place[1]}. Got {only} that only one of them was run on: validate both anew."
        )
    # Trials without a margin in either have no difference.
    return pd.DataFrame({"first": changes[0], "second": changes[1]}).dropna()


def _decided(own: Comparison) -> Comparison:
    if own.p_corrected <= own.alpha + 1e-12:
        return replace(own, outcome="differ")
    alike = -own.margin < own.low and own.high < own.margin
    return replace(own, outcome="alike" if alike else "undecided")


def _effects_of(study: Path, subject: str) -> dict[tuple[str, ...], pd.DataFrame]:
    """Scores of trials by finding: intact, and with its units off at the primary endpoint."""
    path = study / "validation" / subject / "trials.parquet"
    table = read_table(path, (*KEYS, "arm", "primary", "trial", "trial_role"))
    if table.empty:
        return {}
    chosen = table[(table["arm"] == "intact") | table["primary"].astype(bool)]
    return {tuple(map(str, key)): own for key, own in chosen.groupby(KEYS, sort=False)}


def _endpoint(study: Path, subject: str, key: tuple[str, ...]) -> dict:
    contrast, phase, kind, method = key
    folder = study / "findings" / "localise" / subject / f"{contrast}.{phase}"
    return read_finding(folder / f"{kind}.{method}.json")["primary_endpoint"]


def _check_anatomy(study: Path, first: str, second: str) -> None:
    anatomies = []
    for name in (first, second):
        folder = study / "subjects" / name
        if not folder.is_dir():
            raise StoreError(f"{folder}: no such subject. Give one that the study has run.")
        model = empty_model(read_configuration(str(resolve_pointer(folder)), None))
        anatomies.append(describe(model))
    if anatomies[0] != anatomies[1]:
        raise EvidenceError(
            f"{study}: the subjects of a comparison must have the same anatomy, so that their "
            f"units are the same places. Got {anatomies[0].architecture} and "
            f"{anatomies[1].architecture} of other sizes."
        )


def _lineage(study: Path, first: str, second: str) -> str:
    bases = {_base(study, name) for name in (first, second)}
    return bases.pop() if len(bases) == 1 else ""


def _base(study: Path, subject: str) -> str:
    """First digits of the hash of a subject's base, as its card says."""
    path = study / "subjects" / subject / "card.json"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    base = card.get("base_sha256") if isinstance(card, dict) else None
    return str(base)[:12] if base else ""


def _bounds(effect: Effect) -> tuple[float, float, float]:
    return effect.mean, effect.low, effect.high


def _told(mean: float, low: float, high: float) -> str:
    mean, low, high = (np.round(value, 2) + 0.0 for value in (mean, low, high))
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
