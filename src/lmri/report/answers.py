"""Questions from the configuration, answers from the numbers: never from a constant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lmri.config import ContrastOptions, StudyConfig
from lmri.report import words
from lmri.report.inputs import Scan
from lmri.report.kinds import KINDS, Noun, noun_of

EXPERT = KINDS["expert"]


def ask_study(config: StudyConfig, noun: Noun = EXPERT) -> str:
    """Say in one sentence what the study asked.

    Parameters
    ----------
    config : StudyConfig
        The study.
    noun : Noun
        Words for the units of the primary maps.

    Returns
    -------
    str
        A question.
    """
    names = [words.readable(contrast.name) for contrast in config.hypotheses]
    if not names:
        return f"What do the {noun.many} respond to?"
    verb, each = ("Is", "") if len(names) == 1 else ("Are", "each ")
    return f"{verb} {words.listing(names)} {each}carried by a few {noun.many}?"


def explain_study(config: StudyConfig, noun: Noun = EXPERT) -> str:
    """Say in a few sentences how the question was put to the test.

    Parameters
    ----------
    config : StudyConfig
        The study.
    noun : Noun
        Words for the units of the primary maps.

    Returns
    -------
    str
        What has to happen for a claim to hold.
    """
    map_of = "how trials are routed" if noun == EXPERT else f"the activity of {noun.full}"
    if not config.hypotheses:
        return (
            f"Asked of {words.plural(len(config.subjects), 'subject')}. A map of {map_of} shows "
            "where conditions differ. Nothing is claimed, so nothing is switched off."
        )
    score = config.evidence.score
    subjects = words.plural(len(config.subjects), "subject")
    trials = dict.fromkeys(
        f"{words.listing(map(words.readable, contrast.target))} trials of "
        f"{words.readable(contrast.task)}"
        for contrast in config.hypotheses
    )
    return (
        f"Asked of {subjects}, on {words.listing(trials)}. A map of {map_of} names "
        f"the {noun.many}; on other trials they are then switched off. That has to change the "
        f"{words.score_name(score)} ({words.score_meaning(score)}), switching off other "
        f"{noun.many} must not, and all other behaviour has to stay."
    )


def ask_contrast(
    contrast: ContrastOptions, score: str, noun: Noun = EXPERT, *, causal: bool = False
) -> str:
    """Say in one sentence what a contrast asks.

    Parameters
    ----------
    contrast : ContrastOptions
        The contrast.
    score : str
        The primary score.
    noun : Noun
        Words for the units of the primary map.
    causal : bool
        Whether that is a causal map.

    Returns
    -------
    str
        A question.
    """
    task = words.readable(contrast.task)
    if contrast.role == "negative_control":
        return _ask_control(contrast, task)
    target = words.listing(words.readable(name) for name in contrast.target)
    controls = words.listing(words.readable(name) for name in contrast.controls)
    where = (
        f"Which {noun.many} do {target} trials of {task} engage more than {controls} ones"
        if noun == EXPERT
        else f"Which {noun.full} respond otherwise to {target} trials of {task} than to "
        f"{controls} ones"
    )
    if causal:
        where = (
            f"Which {noun.full} move the answer from that of {controls} trials of {task} to that "
            f"of {target} ones"
        )
    if contrast.role == "hypothesis":
        return (
            f"{where}, and does switching them off change the {words.score_name(score)} "
            "and nothing else?"
        )
    return f"{where}?"


def answer_study(verdicts: pd.DataFrame) -> str:
    """Say what was found and whether it held, over all subjects.

    Parameters
    ----------
    verdicts : DataFrame
        All rows of ``verdicts.parquet``.

    Returns
    -------
    str
        One sentence per hypothesis and per negative control; one where there is neither.
    """
    if verdicts.empty:
        return "Nothing was claimed, so nothing was put to the test."
    sentences = []
    for contrast, rows in verdicts.groupby("contrast", sort=False):
        name = words.readable(str(contrast))
        total = words.plural(len(rows), "subject")
        if rows["role"].iloc[0] == "negative_control":
            sentences.append(_answer_controls(name, rows))
            continue
        counts = words.listing(
            f"{word} in {len(group)} ({words.listing(map(str, group['subject']))})"
            for word, group in rows.groupby("verdict", sort=False)
        )
        sentences.append(f"{name.capitalize()}: of {total}, {counts}.")
    return " ".join(sentences)


def answer_contrast(scan: Scan, verdict: dict | None) -> str:
    """Say what one contrast of one subject showed.

    Parameters
    ----------
    scan : Scan
        The map and the finding of the primary phase.
    verdict : dict or None
        The row of ``verdicts.parquet``; None for what decides nothing.

    Returns
    -------
    str
        One to three sentences.
    """
    if scan.contrast.role == "negative_control":
        return _answer_control(scan)
    if scan.contrast.role == "exploratory":
        return _answer_exploratory(scan)
    if verdict is None:
        return "There is no verdict; see the errors at the end of the page."
    if _unmapped(scan):
        return _answer_unmapped(scan)
    if verdict["verdict"] == "not testable" or not words.read_units(verdict["units"]):
        return _answer_untested(verdict, scan.noun)
    return _answer_tested(scan, verdict)


def exceeding(p: float, shams: float) -> int:
    """Count the sham maps that did at least as much, from p = (1 + count) / (1 + shams)."""
    return max(round(float(p) * (1 + int(shams))) - 1, 0)


def n_units(scan: Scan) -> str:
    """Number of all units of the map, as `` of 96``; empty when there is no map."""
    return "" if scan.statistics is None else f" of {scan.statistics['score'].size}"


def significant_units(finding: dict | None) -> Sequence[list[int]]:
    """Units of a finding, best first."""
    dims = noun_of((finding or {}).get("kind", "expert")).dims
    return [[unit[dim] for dim in dims] for unit in (finding or {}).get("units", [])]


def _ask_control(contrast: ContrastOptions, task: str) -> str:
    split = contrast.random_split
    if split is None:
        return f"Does the method find anything in {task} where nothing is to be found?"
    return (
        "Does the method find anything where nothing is to be found: one random half of the "
        f"{words.plural_of(words.readable(split.carrier))} of {words.readable(split.condition)} "
        f"trials in {task} against the other half?"
    )


def _answer_controls(name: str, rows: pd.DataFrame) -> str:
    mapped = [
        words.was_mapped(status, words.read_units(units))
        for status, units in zip(rows["status"], rows["units"], strict=True)
    ]
    if not any(mapped):
        return f"Negative control, {name}: no subject has units to map."
    empty = int((rows["status"] == "null").sum())
    total = words.plural(sum(mapped), "subject")
    return f"Negative control, {name}: nothing was found, as it should be, in {empty} of {total}."


def _answer_control(scan: Scan) -> str:
    units = significant_units(scan.finding)
    if _unmapped(scan):
        return _answer_unmapped(scan)
    if scan.finding is None:
        first = "There is no finding; see the errors at the end of the page."
    elif units:
        first = (
            f"Yes, and it should not: {scan.noun.count(len(units))} "
            f"({words.unit_names(units)}) passed the threshold. A false alarm."
        )
    else:
        first = f"No, as it should be: the map is empty, no {scan.noun.one} passed the threshold."
    return f"{first}{_null_splits(scan)}"


def _null_splits(scan: Scan) -> str:
    attributes = {} if scan.statistics is None else scan.statistics.attrs
    splits = attributes.get("null_splits")
    if not splits:
        return ""
    return (
        f" Of {int(splits)} such random splits, {int(attributes['null_splits_significant'])} gave "
        "a significant map."
    )


def _answer_exploratory(scan: Scan) -> str:
    if _unmapped(scan):
        return _answer_unmapped(scan)
    if scan.statistics is None:
        return "There is no map; see the errors at the end of the page."
    score = scan.statistics["score"].transpose(*scan.noun.dims)
    two_sided = bool(int(scan.statistics.attrs.get("two_sided", 0)))
    strength = np.nan_to_num(np.abs(score.values) if two_sided else score.values, nan=-np.inf)
    place = np.unravel_index(int(np.argmax(strength)), strength.shape)
    best = words.unit_name(
        [score[dim].values[at] for dim, at in zip(score.dims, place, strict=True)]
    )
    what = "routing differs" if scan.name.kind == "expert" else "activity differs"
    kind = "difference" if scan.name.counted else scan.name.statistic_name
    return (
        f"The largest {kind} is {words.signed(float(score.values[place]))}, at {scan.noun.one} "
        f"{best}. A map alone decides nothing: it shows where {what}, not what the difference does."
    )


def _unmapped(scan: Scan) -> bool:
    finding = scan.finding
    return finding is not None and not words.was_mapped(finding["status"], finding["units"])


def _answer_unmapped(scan: Scan) -> str:
    return f"This could not be asked: {scan.finding['reason']}."


def _answer_untested(verdict: dict, noun: Noun) -> str:
    if verdict["status"] == "null":
        lead = f"No {noun.one} stood out, so there was nothing to switch off."
    else:
        lead = "This could not be tested."
    reason = str(verdict["reason"])
    return f"{lead} {reason[:1].upper()}{reason[1:].removesuffix('.')}."


def _answer_tested(scan: Scan, verdict: dict) -> str:
    lead = {"confirmed": "Yes.", "refuted": "No."}
    sentences = [
        lead.get(verdict["verdict"], "Undecided."),
        _switched_off(scan, verdict),
        _against_shams(verdict),
    ]
    if verdict["verdict"] == "refuted":
        sentences.append(
            "The positive control, on the same trials, changed it by "
            f"{_with_interval(verdict, 'positive_control', 'positive_low', 'positive_high')}: the "
            f"behaviour can be moved, but these {scan.noun.many} do not carry it."
        )
    sentences.append(
        f"{words.whole(verdict['bystanders_held'])} of {words.whole(verdict['bystanders'])} other "
        "behaviours stayed within the margin, and "
        f"{words.number(verdict['coherent'])} of the responses were coherent."
    )
    return " ".join(sentences)


def _switched_off(scan: Scan, verdict: dict) -> str:
    units = words.read_units(verdict["units"])
    known = n_units(scan)
    called = scan.noun.many if known or len(units) > 1 else scan.noun.one
    effect = float(verdict["effect"])
    change = "lowered" if effect >= 0 else "raised"
    if words.number(effect) == words.number(0):
        change = "did not change"
    return (
        f"Switching off {len(units)}{known} {called} ({scan.noun.written} "
        f"{words.unit_names(units)}) {change} the {words.score_name(verdict['score'])}: from "
        f"{words.number(verdict['intact'])} to {words.number(verdict['value'])} in "
        f"{words.whole(verdict['n'])} questions (decrease "
        f"{_with_interval(verdict, 'effect', 'low', 'high')})."
    )


def _against_shams(verdict: dict) -> str:
    shams = words.whole(verdict["shams"])
    if shams in {words.NOTHING, "0"}:
        return ""
    count = exceeding(verdict["p"], verdict["shams"])
    return (
        f"{count or 'None'} of {shams} sham maps did as much "
        f"(p {words.probability(verdict['p'])}, corrected "
        f"{words.probability(verdict['p_corrected'])})."
    )


def _with_interval(row: dict, value: str, low: str, high: str) -> str:
    between = words.interval(row[low], row[high])
    return words.number(row[value]) + (f", interval {between}" if between else "")
