"""Maps of other units and tables over subjects, written as ``docs/artefacts.md`` says."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.report import write_report
from lmri.store import write_finding, write_map, write_table

SIZES = {
    "expert": (3, 32),
    "expert_neuron": (3, 32, 16),
    "neuron": (3, 600),
    "head": (3, 4),
    "residual": (3, 64),
    "layer": (3,),
}
DIMS = {
    "expert": ("layer", "expert"),
    "expert_neuron": ("layer", "expert", "neuron"),
    "neuron": ("layer", "neuron"),
    "head": ("layer", "head"),
    "residual": ("layer", "dimension"),
    "layer": ("layer",),
}
HOSTILE = (
    "</script><script>document.title='INJECTED'</script><img src=x onerror=\"document.title='I'\">",
    "$x^2$ and $\\frac{1}{0}$ {{ 7 * 7 }} {% raw %} &amp; <b>\"'` \u202eright to left\u202c",
    "long" * 400,
)
DIRECTIONS = (
    "\u202eoverride",  # everything behind it would run backwards, to the end of its line
    "\u2067\u05e9\u05dc\u05d5\u05dd (1) \u0645\u0631\u062d\u0628\u0627!",  # never closed
    "\u200f\u05d0\u05d1\u05d2 42",
    "Z" + "\u0335\u0327\u0301" * 40,  # marks that are stacked on one letter
    "zero\u200bwidth\u200djoined\ufeff\u2060",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f4\u200d\u2620\ufe0f",
    "\x00\x1b[31m\r\n\t\u2028\u0085",
    "unbroken" * 1250,
)
"""What may not stay where it is written: directions, marks, controls, 10,000 letters."""
RERUN = ("head.welch_t", "expert_neuron.welch_t")
"""Exploratory findings of the hypothesis that were switched off."""


def statistics_of(name: str, *, role: str = "exploratory", selected: int = 3, seed: int = 0):
    """Make a map with a given number of selected units, one of them falling."""
    kind, statistic = name.partition(".")[0], name.rpartition(".")[2]
    sizes, dims = SIZES[kind], DIMS[kind]
    random = np.random.default_rng([seed, len(name)])
    score = random.normal(0, 1, sizes)
    order = random.permutation(score.size)[:selected]
    for rank, place in enumerate(order):
        score.reshape(-1)[place] = (9.5 - rank / 2) * (-1 if rank == 1 else 1)
    p_max = np.where(np.abs(score) > 5, 0.0005, 0.8)
    variables = {
        "score": score,
        "mean_target": score * 0.1,
        "mean_control": np.zeros(sizes),
        "hedges_g": score / 3,
        "p": p_max,
        "p_max": p_max,
        "q": p_max,
        "rank": (-np.abs(score)).ravel().argsort().argsort().reshape(sizes),
    }
    coordinates = {dim: np.arange(size) for dim, size in zip(dims, sizes, strict=True)}
    attributes = {
        "kind": kind,
        "statistic": statistic,
        "two_sided": 1,
        "role": role,
        "permutations": 2000,
        "seed": 0,
        "split_half_correlation": 0.81,
        "split_half_dice": 0.67,
        "split_half_chance": 0.02,
    }
    made = xr.Dataset(
        {variable: (dims, values) for variable, values in variables.items()},
        coordinates,
        attributes,
    )
    if kind == "expert_neuron":
        routing = random.uniform(-0.5, 0.5, sizes[:2])
        made["routing_difference"] = (dims[:2], routing)
    return made


def write_other(study: Path, subject: str, contrast, phase: str, name: str) -> None:
    """Write a map beside the primary one, with its finding."""
    kind, _, method = name.partition(".")
    empty = contrast.role == "negative_control"
    made = statistics_of(name, selected=0 if empty else min(3, SIZES[kind][-1]))
    place = f"{subject}/{contrast.name}.{phase}/{name}"
    write_map(study / "maps" / f"{place}.zarr", made)
    score = made["score"].values
    best = np.argsort(-np.abs(score), axis=None, kind="stable")[: 0 if empty else 3]
    units = [
        {
            dim: int(part)
            for dim, part in zip(DIMS[kind], np.unravel_index(at, score.shape), strict=True)
        }
        | {"score": float(score.reshape(-1)[at])}
        for at in best
    ]
    finding = {
        "stage": "localise",
        "subject": subject,
        "task": contrast.task,
        "contrast": contrast.name,
        "phase": phase,
        "kind": kind,
        "method": method,
        "role": "exploratory",
        "status": "null" if empty else "not_testable",
        "reason": "an exploratory map decides nothing and is not validated",
        "units": units,
        "provenance": {},
    }
    if contrast.role == "hypothesis" and name in RERUN:
        finding |= {
            "status": "testable",
            "reason": "",
            "secondary": {
                "doses": [1, 2],
                "modes": ["zero"],
                "draws": 20,
                "mode": "zero",
                "dose": 2,
                "score": "refusal_onset",
            },
            "controls": {"sham": []},
        }
    write_finding(study / "findings" / "localise" / f"{place}.json", finding)


def other_arms(subject: str) -> pd.DataFrame:
    """Rows of ``arms.parquet`` of exploratory findings that were switched off."""
    rows = []
    for name in RERUN:
        kind, _, method = name.partition(".")
        arms = [("finding", 0, 0.6), *(("sham", draw, 1 - draw / 100) for draw in range(20))]
        rows += [
            {
                "subject": subject,
                "contrast": "refusal",
                "phase": "prompt_last",
                "kind": kind,
                "method": method,
                "arm": arm,
                "mode": "zero",
                "dose": 2,
                "draw": draw,
                "primary": False,
                "task": "events",
                "condition": "sensitive",
                "trial_role": "target",
                "held_out": "all",
                "score": "refusal_onset",
                "n": 80,
                "n_carriers": 12,
                "value": value,
                "intact": 1.0,
                "effect": value - 1 if arm == "finding" else np.nan,
                "low": value - 1.1 if arm == "finding" else np.nan,
                "high": value - 0.9 if arm == "finding" else np.nan,
                "units": "[]",
            }
            for arm, draw, value in arms
        ]
    return pd.DataFrame(rows)


def write_group(study: Path, config, heads: bool = True) -> None:
    """Write the tables over all subjects."""
    maps = _maps(config)
    folder = study / "group"
    write_table(folder / "maps.parquet", maps)
    write_table(folder / "replication.parquet", _replication(maps))
    write_table(folder / "overlap.parquet", _overlap(config))
    if heads:
        write_table(folder / "heads.parquet", heads_table(list(config.subjects)))


def _maps(config) -> pd.DataFrame:
    rows = []
    for index, subject in enumerate(config.subjects):
        for contrast in config.contrasts.values():
            for phase in config.localise.phases:
                for name in config.localise.maps:
                    rows.append(_map_row(index, subject, contrast, phase, name))
    return pd.DataFrame(rows)


def _map_row(index: int, subject: str, contrast, phase: str, name: str) -> dict:
    kind, _, method = name.partition(".")
    empty = contrast.role == "negative_control" or (kind == "head" and index == 1)
    unit = [2, *(index + 3 for _ in DIMS[kind][1:])]
    return {
        "subject": subject,
        "contrast": contrast.name,
        "role": contrast.role if kind == "expert" else "exploratory",
        "phase": phase,
        "kind": kind,
        "method": method,
        "name": name,
        "units": int(np.prod(SIZES[kind])),
        "selected": 0 if empty else 3,
        "rising": 0 if empty else 2,
        "strongest": json.dumps(unit),
        "score": 0.95 if kind == "expert" else 9.5,
        "p_max": 0.8 if empty else 0.0005,
        "size": 0.95 if kind == "expert" else 3.2,
        "split_half_correlation": 0.81,
        "split_half_dice": 0.67,
        "split_half_chance": 0.02,
        "layers": json.dumps({} if empty else {"1": 1, "2": 2}),
        "status": "null" if empty else "testable",
        "reason": "",
    }


def _replication(maps: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (contrast, phase, name), group in maps.groupby(["contrast", "phase", "name"], sort=False):
        mapped = int((group["selected"] > 0).sum())
        rows.append(
            {
                "contrast": contrast,
                "phase": phase,
                "kind": group["kind"].iloc[0],
                "method": group["method"].iloc[0],
                "name": name,
                "subjects": len(group),
                "mapped": mapped,
                "modal_layer": 2.0 if mapped else np.nan,
                "in_modal_layer": mapped,
                "correlation_low": 0.6 if mapped > 1 else np.nan,
                "correlation_mean": 0.8 if mapped > 1 else np.nan,
                "correlation_high": 0.95 if mapped > 1 else np.nan,
                "second_level": "",
            }
        )
    return pd.DataFrame(rows)


def _overlap(config) -> pd.DataFrame:
    subject = next(iter(config.subjects))
    phase, name = config.localise.phases[0], config.localise.maps[0]
    first, *others = [[subject, contrast, phase, name] for contrast in config.contrasts]
    rows = [
        {
            "first": json.dumps(other if index % 2 else first),
            "second": json.dumps(first if index % 2 else other),
            "kind": name.partition(".")[0],
            "shared": 2,
            "first_size": 5 if index % 2 else 3,
            "second_size": 3 if index % 2 else 5,
            "universe": 96,
            "jaccard": 2 / 6,
            "overlap": 2 / 3,
            "p": 0.004 if index % 2 else 0.2,
            "chance": 0.01,
        }
        for index, other in enumerate(others)
    ]
    rows += [{**rows[0], "first": json.dumps(first), "second": json.dumps(["other", *first[1:]])}]
    return pd.DataFrame(rows)


def heads_table(subjects: list[str], steps: tuple[int, ...] = (0, 100, 200, 400)) -> pd.DataFrame:
    """Scores of heads of subjects, and of a series of checkpoints in which one head rises."""
    random = np.random.default_rng(0)
    states = [(subject, "", np.nan) for subject in subjects]
    states += [(f"base_{step}", "base", float(step)) for step in steps]
    rows = []
    for subject, series, step in states:
        for layer in range(3):
            for head in range(4):
                rises = (layer, head) == (1, 2) and (not series or step >= 200)
                rows.append(
                    {
                        "subject": subject,
                        "series": series,
                        "step": step,
                        "layer": layer,
                        "head": head,
                        "induction": 0.7 if rises else float(random.uniform(0, 0.1)),
                        "previous": float(random.uniform(0, 0.3)),
                        "copying": float(random.uniform(-0.2, 0.4)),
                        "entropy": float(random.uniform(0.5, 3)),
                        "head.drain.events.drain": float(random.uniform(0, 9)),
                    }
                )
    return pd.DataFrame(rows)


class Elements(HTMLParser):
    """Collects tags with their attributes, and text by tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs) -> None:
        self.handle_starttag(tag, attrs)


def write(study: Path, out: Path, config) -> Path:
    """Write the report of a study."""
    provenance = {"lmri": "0.1.0", "code": "c" * 64, "libraries": {"numpy": "2.4.6"}}
    return write_report(study=study, out=out, config=config, provenance=provenance)


def visible(html: str) -> str:
    """Text of a page, without drawings."""
    text = re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]+>", " ", html, flags=re.S)
    return re.sub(r"\s+", " ", text)


def assert_safe(page: Path, report: Path) -> None:
    """Assert that a page runs nothing, names everything once, and links only to what is there."""
    html = page.read_text()
    tags = Elements(html).tags
    identifiers = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(identifiers)
    for target in [attrs["href"] for tag, attrs in tags if tag in {"a", "use"}]:
        if target.startswith("#"):
            assert target[1:] in identifiers
        else:
            assert (page.parent / target).resolve().is_relative_to(report.resolve())
            assert (page.parent / target).is_file()
    assert not any(tag in {"script", "img"} for tag, _ in tags)
    assert "default-src 'none'" in html.replace("&#39;", "'")
    tables = sum(tag == "table" for tag, _ in tags)
    assert tables == sum(tag == "caption" for tag, _ in tags)
    assert all("scope" in attrs for tag, attrs in tags if tag == "th")
    images = [attrs for _, attrs in tags if attrs.get("role") == "img"]
    assert all(len(attrs["aria-label"]) > 20 for attrs in images)


def assert_levels(page: Path) -> None:
    """Assert that the headings of a page begin with one of level 1 and skip none."""
    levels = [int(tag[1]) for tag, _ in Elements(page.read_text()).tags if re.match(r"h\d$", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
