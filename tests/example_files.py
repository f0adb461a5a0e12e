"""Examples of units and traces of trials, written as ``docs/artefacts.md`` says."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from lmri.store import write_table, write_text_atomic

PROMPT = ("<user>", " what", " happened", " ?", "<assistant>")
ANSWER = ("I", " cannot", " .")


def write_examples(
    study: Path,
    config,
    *,
    words: tuple[str, ...] = (),
    trial: str = "events:1",
    answer: tuple[str, ...] = ANSWER,
) -> None:
    """Write the examples of every subject: of two experts and a neuron, of one refusal and a copy.

    ``words`` stand at the token where the units are most active, each in an example of its own.
    """
    for subject in config.subjects:
        folder = study / "analyses/examples" / subject
        tables = _tables(subject, config, words or ("<assistant>", "I"), trial, answer)
        for name, table in tables.items():
            write_table(folder / f"{name}.parquet", table)
        about = {"left_out": {"head.norm": "not recorded at every token"}, "provenance": {}}
        write_text_atomic(folder / "about.json", json.dumps(about))


def _tables(subject: str, config, words, trial, answer) -> dict[str, pd.DataFrame]:
    units = [
        {"kind": "expert", "quantity": "rate", "unit": "[2, 16]"},
        {"kind": "expert", "quantity": "rate", "unit": "[1, 4]"},
        {"kind": "expert_neuron", "quantity": "unconditional", "unit": "[2, 16, 3]"},
    ]
    examples, tokens, traces = [], [], []
    for unit in units:
        for rank, word in enumerate(words, start=1):
            known = {"task": "events", "trial": f"{trial}:{rank}", "repeat": 0}
            known |= {"condition": "sensitive", "split": "calibration", "position": 4}
            value = (1 - rank / 10) * (-20 if unit["kind"] == "expert_neuron" and rank > 1 else 1)
            examples.append(
                {**unit, "facet": min(rank, 2), "rank": rank, "activity": value, **known}
                | {"length": 8, "span": "system", "token": word}
            )
            shown = (*PROMPT[:-1], word, *answer)
            tokens += [
                {**unit, "rank": rank, "position": place, "span": _span(place), "token": token}
                | {"activity": value * (1.0, 0.7, 0.0)[min(2, abs(place - 4))]}
                for place, token in enumerate(shown)
            ]
        for condition in ("sensitive", "benign"):
            head = {"contrast": "refusal", "task": "events", "trial": trial, "split": "calibration"}
            head |= {"condition": condition, "length": 8}
            traces += [
                {**head, **unit, "position": place, "span": _span(place), "token": token}
                | {"activity": 0.9 * (place == 4)}
                for place, token in enumerate((*PROMPT[:-1], words[0], *answer))
            ]
    about = {"tokens": 1000, "active": 0.04, "mean": 0.01, "largest": 18.0}
    about |= {"examples": len(words), "facets": 2, "score": 0.9, "subject": subject}
    about["phase"] = config.localise.phases[0]
    named = [
        {"contrast": contrast, "source": source, "rank": rank, **own, **about}
        | {"method": "resonance" if own["kind"] == "expert" else "welch_t"}
        for contrast, source in (("refusal", "finding"), ("null_places", "map"))
        for rank, own in enumerate(units, start=1)
        if contrast in config.contrasts
    ]
    tables = {"units": named, "examples": examples, "tokens": tokens, "traces": traces}
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def _span(place: int) -> str:
    if place >= len(PROMPT):
        return "response"
    return "content" if place in (1, 2, 3) else "system"
