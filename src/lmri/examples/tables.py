"""Tables of the stage ``examples``: units, examples, their tokens, traces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lmri.examples.asked import FINDING, Activity, Asked
from lmri.examples.found import Found
from lmri.examples.strongest import Example
from lmri.examples.texts import TokenTexts
from lmri.examples.traces import Comparison, Trace
from lmri.store import Recording

UNITS = (
    *("subject", "contrast", "phase", "kind", "method", "source", "rank", "score"),
    *("quantity", "unit", "tokens", "active", "mean", "largest", "examples", "facets"),
)
EXAMPLES = (
    *("kind", "quantity", "unit", "facet", "rank", "activity", "task", "trial", "repeat"),
    *("condition", "split", "position", "length", "span", "token"),
)
TOKENS = ("kind", "quantity", "unit", "rank", "position", "span", "token", "activity")
TRACES = (
    *("contrast", "task", "trial", "condition", "split", "length", "kind", "quantity", "unit"),
    *("position", "span", "token", "activity"),
)

Stores = Mapping[str, Sequence[Recording]]
Faceted = Sequence[Sequence[tuple[int, Example]]]


def unit_table(
    subject: str, asked: Sequence[Asked], found: Found, faceted: Faceted
) -> pd.DataFrame:
    """Tell which maps name which unit, and how active it is over all tokens.

    Parameters
    ----------
    subject : str
        The subject.
    asked : sequence of Asked
        Units by map; those that could not be read are left out.
    found : Found
        What was read.
    faceted : list of list of (int, Example)
        Examples of each unit with their facets, see :meth:`Found.faceted`.

    Returns
    -------
    DataFrame
        Columns :data:`UNITS`.
    """
    places = {own: at for at, own in enumerate(found.activities)}
    rows = []
    for entry in asked:
        own = entry.activity
        if own not in places:
            continue
        at, kept = places[own], found.strongest
        examples = faceted[at]
        rows.append(
            {
                "subject": subject,
                "contrast": entry.contrast,
                "phase": entry.phase,
                "kind": own.kind,
                "method": entry.method,
                "source": entry.source,
                "rank": entry.rank,
                "score": entry.score,
                **_key(own),
                "tokens": kept.tokens,
                "active": kept.active[at] / max(1, kept.tokens),
                "mean": kept.total[at] / max(1, kept.tokens),
                "largest": max((example.strength for _, example in examples), default=0.0),
                "examples": len(examples),
                "facets": len({facet for facet, _ in examples}),
            }
        )
    return pd.DataFrame(rows, columns=list(UNITS))


def example_tables(
    found: Found,
    faceted: Faceted,
    stores: Stores,
    texts: TokenTexts,
    spans: Sequence[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """List examples, and the tokens around their largest activity.

    Parameters
    ----------
    found : Found
        What was read.
    faceted : list of list of (int, Example)
        Examples of each unit with their facets, see :meth:`Found.faceted`.
    stores : mapping of str to sequence of Recording
        Recordings by task, for what is known of trials.
    texts : TokenTexts
        Words of tokens.
    spans : sequence of str
        Names of the codes of spans.

    Returns
    -------
    tuple of (DataFrame, DataFrame)
        Columns :data:`EXAMPLES` and :data:`TOKENS`.
    """
    examples, tokens = [], []
    for at, own in enumerate(found.activities):
        for rank, (facet, entry) in enumerate(faceted[at], start=1):
            words, peak = texts.of(entry.ids.tolist()), entry.position - entry.start
            names = [spans[code] for code in entry.spans]
            known = stores[entry.task][entry.shard].trials.iloc[entry.row]
            examples.append(
                {
                    **_key(own),
                    "facet": facet,
                    "rank": rank,
                    "activity": float(entry.activity[peak]),
                    "task": entry.task,
                    "trial": str(known["trial"]),
                    "repeat": int(known.get("repeat", 0)),
                    "condition": str(known["condition"]),
                    "split": str(known["split"]),
                    "position": entry.position,
                    "length": entry.length,
                    "span": names[peak],
                    "token": words[peak],
                }
            )
            tokens += [
                {
                    **_key(own),
                    "rank": rank,
                    "position": entry.start + place,
                    "span": names[place],
                    "token": words[place],
                    "activity": float(entry.activity[place]),
                }
                for place in range(len(words))
            ]
    return (
        pd.DataFrame(examples, columns=list(EXAMPLES)),
        pd.DataFrame(tokens, columns=list(TOKENS)),
    )


def trace_table(
    found: Found,
    asked: Sequence[Asked],
    compared: Sequence[Comparison],
    stores: Stores,
    texts: TokenTexts,
    spans: Sequence[str],
) -> pd.DataFrame:
    """List every token of the traced trials with the activity of the units of findings.

    Parameters
    ----------
    found : Found
        What was read.
    asked : sequence of Asked
        Units by map, all of them read.
    compared : sequence of Comparison
        Contrasts.
    stores, texts, spans
        As for :func:`example_tables`.

    Returns
    -------
    DataFrame
        Columns :data:`TRACES`: by contrast, trial, token and unit.
    """
    places = {own: at for at, own in enumerate(found.activities)}
    rows: list[dict[str, Any]] = []
    for comparison in compared:
        units = dict.fromkeys(
            entry.activity
            for entry in asked
            if entry.contrast == comparison.name and entry.source == FINDING
        )
        for trace in _of_conditions(found.traces, comparison, stores):
            known = stores[trace.task][trace.shard].trials.iloc[trace.row]
            head = {
                "contrast": comparison.name,
                "task": trace.task,
                "trial": str(known["trial"]),
                "condition": str(known["condition"]),
                "split": str(known["split"]),
                "length": trace.length,
            }
            for place, word in enumerate(texts.of(trace.ids.tolist())):
                about = {
                    "position": trace.start + place,
                    "span": spans[trace.spans[place]],
                    "token": word,
                }
                rows += [
                    {
                        **head,
                        **_key(own),
                        **about,
                        "activity": float(trace.activity[place, places[own]]),
                    }
                    for own in units
                ]
    return pd.DataFrame(rows, columns=list(TRACES))


def _of_conditions(traces: Sequence[Trace], compared: Comparison, stores: Stores) -> list[Trace]:
    """Traces of the conditions of a contrast, in their order."""
    found = []
    for condition in compared.conditions:
        for trace in traces:
            known = stores[trace.task][trace.shard].trials["condition"].iloc[trace.row]
            if trace.task == compared.task and known == condition:
                found.append(trace)
    return found


def _key(own: Activity) -> dict[str, str]:
    return {"kind": own.kind, "quantity": own.quantity, "unit": json.dumps(list(own.unit))}
