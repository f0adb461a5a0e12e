"""Findings: what the map selects and nothing else, with controls the subject can be run without."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lmri.config import ConditionOptions, EvidenceOptions
from lmri.localise import (
    Cells,
    CountedRates,
    contrast_design,
    hypothesis,
    parse_measure,
    unit_map,
)
from lmri.localise.findings import base_finding
from lmri.localise.hypothesis import Ground, primary_finding

PLANTED = [(1, 3), (0, 6)]
OPTIONS = EvidenceOptions(
    shams=19,
    exploratory_shams=3,
    matched_draws=2,
    doses=(1, 2, 4, 8),
    target_effect=2.0,  # out of reach: the dose is the fall-back
    minimum_trials=1,
    minimum_target_trials=1,
    coherent_share=0.0,  # the random subject never ends a response
)


@pytest.fixture(scope="module")
def result(grid, crossed):
    """A map of 2 layers of 8 experts of which two answer to the conjunction."""
    rng = np.random.default_rng(0)
    logits = 0.5 * rng.normal(size=(len(grid), 2, 8))
    for column in ("carrier_place", "carrier_year"):
        codes, values = pd.factorize(grid[column])
        logits += 0.5 * rng.normal(size=(len(values), 2, 8))[codes]
    for unit in PLANTED:
        logits[(grid["condition"] == "sensitive").to_numpy(), *unit] += 5.0
    counts = np.zeros(logits.shape, dtype=np.int64)
    np.put_along_axis(counts, np.argsort(-logits, axis=-1)[..., :2], 1, axis=-1)
    labels, ones = grid[["carrier_place", "carrier_year", "condition"]], np.ones(len(grid), int)
    cells = Cells(labels, counts, ones, ones, (0, 1))
    design = contrast_design(crossed, grid, ("place", "year"))
    return unit_map(
        parse_measure("expert.resonance"),
        CountedRates(cells),
        design,
        alpha=0.05,
        permutations=199,
        seed=0,
        owner="refusal",
    )


@pytest.fixture(scope="module")
def contrast(crossed):
    """The default contrast with one bystander."""
    return crossed.__class__(
        **{**vars(crossed), "bystanders": (ConditionOptions("events", "benign"),)}
    )


@pytest.fixture
def complete(tiny_subject, small_world, grid, contrast, result):
    """A function that makes the finding of that map, with its endpoint."""
    recorded = grid.assign(refusal_onset=(grid["condition"] == "sensitive").astype(float))
    items = [small_world.event(place, "1901") for place in small_world.places[:6]]
    few = grid.groupby("condition").head(6)
    tables = []
    for split in ("calibration", "evaluation"):
        table = few.assign(split=split, refusal=small_world.refusal())
        table["prompt"] = [items[row % 6].prompt for row in range(len(few))]
        table["fact"] = [items[row % 6].fact for row in range(len(few))]
        tables.append(table.assign(reference=table["fact"]))
    stimuli = {"events": pd.concat(tables, ignore_index=True)}

    def make(**changes) -> dict:
        options = replace(OPTIONS, **changes)
        base = base_finding("tiny", contrast, "prompt_last", "hypothesis", result, options, {})
        ground = Ground(
            tiny_subject,
            contrast,
            options,
            selection=grid,
            recorded=recorded,
            stimuli=stimuli,
            claims=1,
            max_new_tokens=3,
            seed=0,
        )
        return primary_finding(base, result, ground)

    return make


def test_a_finding_holds_the_units_that_survive_and_no_other(complete, result):
    finding = complete()
    assert {(u["layer"], u["expert"]) for u in finding["units"]} == set(PLANTED)
    assert all(unit["p_max"] <= 0.05 for unit in finding["units"])
    assert (result.score > 0).sum() > 2  # more would have been there for the larger doses
    assert finding["secondary"]["doses"] == [1, 2]
    assert [row["dose"] for row in finding["calibration"]] == [1, 2]
    # The random subject never ends a response, which is let pass here.
    assert {row["coherent"] for row in finding["calibration"]} == {0.0}
    assert finding["primary_endpoint"]["dose"] == 2
    assert {len(units) for units in finding["controls"]["sham"]} == {2}
    assert (len(finding["controls"]["sham"]), finding["reason"]) == (19, "")


def test_shams_the_subject_cannot_be_run_without_are_replaced(complete, monkeypatch):
    refused = tuple(complete()["controls"]["sham"][0][0])
    monkeypatch.setattr(hypothesis, "feasible", lambda plan, anatomy: refused not in plan.units)
    finding = complete()
    assert len(finding["controls"]["sham"]) == 19
    assert not any(refused in units for units in finding["controls"]["sham"])


def test_fewer_shams_than_asked_for_are_said_in_the_finding(complete, monkeypatch):
    wanted = {frozenset(units) for units in complete()["controls"]["sham"][:1]}
    monkeypatch.setattr(hypothesis, "feasible", lambda plan, _: frozenset(plan.units) in wanted)
    monkeypatch.setattr("lmri.localise.shams.TRIES", 1)  # the splits are exhausted
    finding = complete()
    count = len(finding["controls"]["sham"])
    assert 1 <= count < 19
    assert finding["status"] == "testable"
    assert finding["reason"].endswith(f"{count} sham maps only; 19 were asked for")
    assert finding["primary_endpoint"]["shams"] == 19


def test_no_sham_at_all_is_not_testable(complete, monkeypatch):
    monkeypatch.setattr(hypothesis, "feasible", lambda plan, anatomy: False)
    finding = complete()
    assert finding["status"] == "not_testable"
    assert "primary_endpoint" not in finding
    assert "no sham map" in finding["reason"]


def test_a_subject_whose_responses_do_not_end_can_not_be_judged(complete):
    finding = complete(coherent_share=0.9)
    assert finding["status"] == "not_testable"
    assert "primary_endpoint" not in finding
    assert "0.00 of the intact responses end by themselves within 3 tokens" in finding["reason"]
    assert "record.max_new_tokens" in finding["reason"]
