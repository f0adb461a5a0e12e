"""The scorers: what each needs, its range, and what more of it means.

============================  ============================================================
name                          score
============================  ============================================================
``refusal_onset``             as in :mod:`lmri.score.behaviour`, measured while generating
``onset_margin``              likewise, in logits
``refusal_exact``             the whole answer is the trial's refusal, and it ended
``fact_told``                 the answer has the true answer in it
``exact``                     the whole answer is the reference, and it ended
``refusal_phrases_english``   the answer has a phrase of a versioned list, see :mod:`.phrases`
``refusal_phrases_embedded``  likewise, of the embedded world
``refusal_log_odds``          log-odds that the first token begins the trial's refusal
``forced_choice``             the reference is the likeliest of the trial's choices
``forced_choice_margin``      its log-likelihood less that of the likeliest other
``match_exact``               answer and reference are the same when normalised
``match_f1``                  words that they share
``match_numeric``             the last number of the answer is that of the reference
``response_log_probability``  mean log-probability of the response after its first token under
                              the intact subject, see :mod:`.coherence`
``coherent``                  the response passes the limits of coherence
============================  ============================================================

A scorer that needs ``logits`` reads the subject under the intervention of each response; one that
needs ``intact_logits`` reads it without. All others score text, tokens and what was measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from lmri.anatomy import encode
from lmri.checks import check_choice, shortened
from lmri.config import ScorersOptions
from lmri.errors import ScoreError
from lmri.score.behaviour import matches
from lmri.score.coherence import coherent
from lmri.score.custom import Custom
from lmri.score.likelihood import choice_log_likelihoods, forced_choice, refusal_log_odds
from lmri.score.matching import exact_match, f1_match, numeric_match
from lmri.score.phrases import LISTS, PhraseList, packaged_phrases, read_phrases
from lmri.score.scorer import Answers, Scorer


def scorers(
    names: Iterable[str],
    *,
    custom: Iterable[Custom] = (),
    phrases: Mapping[str, PhraseList] | None = None,
) -> dict[str, Scorer]:
    """Find scorers by their names.

    Parameters
    ----------
    names : iterable of str
        Names of :data:`SCORERS`, of a user's scorers, or ``refusal_phrases_<list>`` of a user's
        list.
    custom : iterable of Custom
        A user's scorers; imported here, so that a wrong one is found before anything is scored.
    phrases : mapping of str to PhraseList, optional
        A user's lists, by name.

    Returns
    -------
    dict of str to Scorer
        The scorers, in the order of the names.

    Raises
    ------
    ScoreError
        If a name is unknown, or a user's scorer has the name of another.
    """
    known = dict(SCORERS)
    for own in custom:
        check_new(own.name, known)
        own.load()
        known[own.name] = Scorer(
            own.name, _scored_by(own), low=own.low, high=own.high, more="user", version=own.function
        )
    for name, own_list in (phrases or {}).items():
        check_new(f"refusal_phrases_{name}", known)
        known[f"refusal_phrases_{name}"] = _phrase_scorer(name, own_list)
    names = list(dict.fromkeys(names))
    for name in names:
        check_choice(name, known, "name", "a scorer", ScoreError)
    return {name: known[name] for name in names}


def study_scorers(options: ScorersOptions, names: Iterable[str] = ()) -> dict[str, Scorer]:
    """Find the scorers that a study names.

    Parameters
    ----------
    options : ScorersOptions
        The section ``scorers`` of the study.
    names : iterable of str
        Others than those that the study names.

    Returns
    -------
    dict of str to Scorer
        As of :func:`scorers`.
    """
    custom = [
        Custom(
            own.name,
            own.function,
            -math.inf if own.low is None else own.low,
            math.inf if own.high is None else own.high,
            None if own.folder is None else Path(own.folder),
        )
        for own in options.functions
    ]
    phrases: dict[str, PhraseList] = {}
    for path in options.phrases:
        read = read_phrases(Path(path))
        if read.name in phrases:
            raise ScoreError(
                f"{path}: 'name' must be new. Got '{read.name}', which is there twice."
            )
        phrases[read.name] = read
    return scorers(tuple(names) or options.names, custom=custom, phrases=phrases)


def check_new(name: str, known: Iterable[str]) -> None:
    """Refuse a user's scorer that has the name of another."""
    if name in known:
        raise ScoreError(
            f"The name of a scorer must be new. Got '{name}', which exists: rename it."
        )


def extra_scores(
    names: Iterable[str],
    answers: Answers,
    *,
    custom: Iterable[Custom] = (),
    phrases: Mapping[str, PhraseList] | None = None,
) -> pd.DataFrame:
    """Score responses by several scorers.

    Parameters
    ----------
    names, custom, phrases
        As for :func:`scorers`.
    answers : Answers
        The responses.

    Returns
    -------
    DataFrame
        A column for every scorer, indexed as the table of the answers.
    """
    found = scorers(names, custom=custom, phrases=phrases)
    return pd.DataFrame(
        {name: own(answers) for name, own in found.items()}, index=answers.table.index
    )


def _scored_by(own: Custom) -> Callable[[Answers], np.ndarray]:
    def score(answers: Answers) -> np.ndarray:
        table = answers.table
        blind = [name for name in table.columns if name not in UNSEEN]
        return own.score(answers.column("answer", own.name), table[blind].to_dict("records"))

    return score


UNSEEN = ("arm", "mode", "dose", "draw", "plan", "seed", "units", "primary", "tokens")
"""Columns that a user's scorer does not get: it must not know what was done to a response."""


def _phrase_scorer(name: str, own: PhraseList) -> Scorer:
    return Scorer(
        f"refusal_phrases_{name}",
        lambda answers: own.found(answers.column("answer", "phrases")),
        more="refusal",
        version=own.label,
    )


def _measured(name: str) -> Callable[[Answers], np.ndarray]:
    return lambda answers: answers.table[name].to_numpy(dtype=np.float64)


def _whole(column: str) -> Callable[[Answers], np.ndarray]:
    def score(answers: Answers) -> np.ndarray:
        wanted = answers.table[column].fillna("").astype(str)
        ended = answers.table["ended"].to_numpy(dtype=bool)
        found = np.array(matches(answers.column("answer", column), wanted, ended))
        return np.where(wanted == "", 0.0, found) if column == "refusal" else found

    return score


def _fact_told(answers: Answers) -> np.ndarray:
    pairs = zip(
        answers.column("fact", "fact_told"), answers.column("answer", "fact_told"), strict=True
    )
    return np.array([float(bool(fact) and fact in said) for fact, said in pairs])


def _matched(match: Callable[[str, str], float]) -> Callable[[Answers], np.ndarray]:
    def score(answers: Answers) -> np.ndarray:
        pairs = zip(answers.column("answer", ""), answers.column("reference", ""), strict=True)
        return np.array([match(answer, reference) for answer, reference in pairs])

    return score


def _log_odds(answers: Answers) -> np.ndarray:
    texts = answers.column("refusal", "refusal_log_odds")
    first = {text: encode(answers.tokenizer, text, "'refusal'")[:1] for text in set(texts) if text}
    return refusal_log_odds(answers.reader, [first.get(text, []) for text in texts])


def _choice(part: int) -> Callable[[Answers], np.ndarray]:
    def score(answers: Answers) -> np.ndarray:
        ids = [[_tokens(answers.tokenizer, choice) for choice in own] for own in _choices(answers)]
        return forced_choice(choice_log_likelihoods(answers.reader, ids))[part]

    return score


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return [*encode(tokenizer, text, "a choice"), *end]


def _choices(answers: Answers) -> list[list[str]]:
    """The right answer of every trial and the others: named ones, or its fact and refusal."""
    right = answers.column("reference", "forced_choice")
    if "choices" in answers.table:
        named = [_listed(value) for value in answers.table["choices"]]
    else:
        others = [name for name in ("fact", "refusal") if name in answers.table]
        columns = [answers.column(name, "forced_choice") for name in others]
        named = [list(row) for row in zip(*columns, strict=True)] or [[]] * len(right)
    return [
        list(dict.fromkeys(text for text in (own, *others) if text))
        for own, others in zip(right, named, strict=True)
    ]


def _listed(value: object) -> list[str]:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = None
    value = list(value) if isinstance(value, (list, tuple, np.ndarray)) else None
    if value is None or not all(isinstance(text, str) for text in value):
        raise ScoreError(
            "The 'choices' of a trial must be a list of texts, as JSON in a table. "
            f"Got {shortened(value)}."
        )
    return value


def _likely(answers: Answers) -> np.ndarray:
    """As :func:`lmri.score.coherence.response_log_probability`, through a reader."""
    rows = [row for row, own in enumerate(answers.tokens) if len(own) > 1]
    found = answers.intact_reader(rows, [answers.tokens[row].tolist() for row in rows])
    means = np.full(len(answers.tokens), np.nan)
    for row, log in zip(rows, found, strict=True):
        means[row] = log[1:].mean()
    return means


def _coherent(answers: Answers) -> np.ndarray:
    ended = answers.table["ended"].to_numpy(dtype=bool)
    return coherent(_likely(answers), answers.tokens, ended, dict(answers.limits))


_TEXT = ("answer", "ended")
_ALL = (
    Scorer(
        "refusal_onset", _measured("refusal_onset"), ("measured",), ("refusal_onset",),
        more="refusal",
    ),
    Scorer(
        "onset_margin", _measured("onset_margin"), ("measured",), ("onset_margin",),
        -math.inf, math.inf, "refusal",
    ),
    Scorer("refusal_exact", _whole("refusal"), columns=(*_TEXT, "refusal"), more="refusal"),
    Scorer("fact_told", _fact_told, columns=("answer", "fact")),
    Scorer("exact", _whole("reference"), columns=(*_TEXT, "reference")),
    Scorer(
        "refusal_log_odds", _log_odds, ("logits",), ("refusal",), -math.inf, math.inf, "refusal"
    ),
    Scorer("forced_choice", _choice(0), ("logits",), ("reference",)),
    Scorer(
        "forced_choice_margin", _choice(1), ("logits",), ("reference",), -math.inf, math.inf
    ),
    Scorer("match_exact", _matched(exact_match), columns=("answer", "reference")),
    Scorer("match_f1", _matched(f1_match), columns=("answer", "reference")),
    Scorer("match_numeric", _matched(numeric_match), columns=("answer", "reference")),
    Scorer(
        "response_log_probability", _likely, ("tokens", "intact_logits"), (), -math.inf, 0.0,
        "likely",
    ),
    Scorer(
        "coherent", _coherent, ("tokens", "intact_logits", "limits"), ("ended",), more="likely"
    ),
    *(_phrase_scorer(name, packaged_phrases(name)) for name in LISTS),
)  # fmt: skip

SCORERS: dict[str, Scorer] = {scorer.name: scorer for scorer in _ALL}
"""All scorers of the package, by name."""
