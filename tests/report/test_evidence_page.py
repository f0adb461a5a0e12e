"""The page of evidence: every claim, a card for each verdict, subjects compared."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmri.report import explain_verdict
from lmri.report.evidence import Evidence
from lmri.report.figures.controls import swarm
from lmri.report.files import Files
from lmri.report.reading import read_study
from lmri.report.validation.page import evidence_leaf, has_evidence
from lmri.report.validation.tables import CLAIMS, COMPARISONS, rival_table
from lmri.report.validation.ways import other_way
from lmri.store import read_finding, read_table, write_finding, write_table

OUTCOMES = {
    "localised": {"necessity": "holds", "sufficiency": "fails", "dose": "not testable"},
    "distributed": {"necessity": "fails", "sufficiency": "undecided", "dose": "holds"},
}


def claim_row(subject: str, claim: str, outcome: str) -> dict:
    numbers = {"n": 80, "n_carriers": 12, "effect": 0.9, "low": 0.8, "high": 1.0}
    return {
        **dict.fromkeys(CLAIMS, "x"),
        "subject": subject,
        "contrast": "refusal",
        "phase": "prompt_last",
        "kind": "expert",
        "method": "resonance",
        "claim": claim,
        "claim_kind": claim,
        "outcome": outcome,
        "statement": f"{claim} <b>of</b> it.",
        "reason": f"because of {claim}",
        **numbers,
        "threshold": 0.1,
        "p": 0.01,
        "p_corrected": 0.02,
    }


@pytest.fixture(scope="module")
def study(plain: Path, tmp_path_factory) -> Path:
    """The synthetic study with claims, kernels and a comparison."""
    folder = shutil.copytree(plain, tmp_path_factory.mktemp("evidence") / "fixture")
    for subject, outcomes in OUTCOMES.items():
        path = folder / f"findings/localise/{subject}/refusal.prompt_last/expert.resonance.json"
        finding = read_finding(path)
        stated = {key: finding[key] for key in finding if key not in {"hash", "written", "schema"}}
        finding = write_finding(path, {**stated, "claims": [{"kind": "necessity"}]})
        verdicts = read_table(folder / f"validation/{subject}/verdicts.parquet")
        ours = verdicts["contrast"] == "refusal"
        verdicts.loc[ours, "finding_hash"] = finding["hash"]
        kernel = {"kernel": "cpu", "kernel_trials": 16, "kernel_agreeing": 15, "kernel_reason": ""}
        write_table(
            folder / f"validation/{subject}/verdicts.parquet", verdicts.assign(cut=3, **kernel)
        )
        rows = [claim_row(subject, *entry) for entry in outcomes.items()]
        write_table(folder / f"validation/{subject}/claims.parquet", pd.DataFrame(rows))
    names = {"first": "localised", "second": "distributed", "contrast": "refusal"}
    texts = {"task": "events", "condition": "sensitive", "trial_role": "target"}
    row = {**dict.fromkeys(COMPARISONS, 0.25), **names, **texts, "score": "refusal_onset"}
    table = pd.DataFrame([{**row, "lineage": "abc", "outcome": "differ"}])
    write_table(folder / "comparisons.parquet", table)
    return folder


@pytest.fixture(scope="module")
def leaf(study, config):
    inputs = read_study(study, config)
    assert has_evidence(inputs)
    assert not [p for p in inputs.problems if "claims" in p.path or "comparisons" in p.path]
    return evidence_leaf(inputs, "pages/evidence.html", Files())


def tables_of(leaf) -> list:
    return [block for block in leaf.blocks if block.kind == "table"]


def test_every_claim_of_every_subject_is_in_one_table(leaf):
    matrix = tables_of(leaf)[0]
    assert [column.label for column in matrix.columns[1:]] == ["Necessity", "Sufficiency", "Dose"]
    texts = [[cell.text for cell in row] for row in matrix.rows]
    assert texts == [
        ["localised", "holds", "fails", "not testable"],
        ["distributed", "fails", "undecided", "holds"],
        ["Holds in", "1 of 2", "0 of 2", "1 of 1"],
    ]
    assert leaf.answer == ("Of 6 claims, 2 hold, 2 fail, 1 is undecided and 1 could not be tested.")


def test_a_card_tells_rule_kernels_claims_and_what_would_change_it(leaf):
    headings = [block.title for block in leaf.blocks if block.kind == "heading"]
    assert headings == [
        "All claims",
        "Localised: refusal",
        "Distributed: refusal",
        "Subjects compared",
    ]
    prose = {lead: text for b in leaf.blocks if b.kind == "prose" for lead, text in b.lines}
    assert "sha256" in prose["Fixed"]
    assert prose["Kernels."].startswith("15 of 16 trials have the same score one at a time")
    assert prose["Cut."].startswith("3 responses")
    assert prose["What would change this verdict:"].endswith(".")
    own = next(t for t in tables_of(leaf) if t.columns[0].label == "Claim")
    assert [row[1].text for row in own.rows] == ["holds", "fails", "not testable"]
    assert [b.title for b in leaf.blocks if b.kind == "figure"] == ["Against all control draws"] * 2


def test_every_control_draw_is_a_dot(leaf):
    (figure, *_) = [block for block in leaf.blocks if block.kind == "figure"]
    svg = str(figure.panels[0].svg)
    assert "sham maps (99)" in svg and "(20)" in svg
    x, shift = swarm(np.array([0.1, np.nan, 0.1, 0.1, 0.5]))
    assert x.tolist() == pytest.approx([0.1, 0.1, 0.1, 0.5])
    assert sorted(shift[:3]) == pytest.approx([-0.08, 0, 0.08]) and shift[3] == 0


def test_subjects_are_compared_by_their_difference(leaf):
    (row,) = tables_of(leaf)[-1].rows
    assert row[0].text == "localised, distributed" and row[6].text == "differ"


def test_explain_tells_the_claims(study):
    lines = explain_verdict(study, "localised/refusal")
    text = "\n".join(lines)
    assert "claims      necessity holds: because of necessity" in text
    assert f"-> {study / 'validation/localised/claims.parquet'}" in text


def test_a_study_without_claims_has_no_page(plain, config):
    inputs = read_study(plain, config)
    assert not has_evidence(inputs)


def test_claims_that_are_lost_are_a_problem(study, config, tmp_path):
    folder = shutil.copytree(study, tmp_path / "fixture")
    (folder / "validation/localised/claims.parquet").unlink()
    problems = read_study(folder, config).problems
    assert any(p.path == "validation/localised/claims.parquet" for p in problems)


def test_a_rival_is_beaten_below_the_interval():
    def row(arm: str, value: float, units: list, low=float("nan"), high=float("nan")) -> dict:
        return {
            "arm": arm,
            "mode": "mask",
            "dose": 1,
            "trial_role": "target",
            "held_out": "all",
            "score": "refusal_onset",
            "condition": "sensitive",
            "value": value,
            "intact": 1.0,
            "low": low,
            "high": high,
            "units": json.dumps(units),
        }

    arms = pd.DataFrame(
        [
            row("finding", 0.1, [[2, 16]], -0.95, -0.85),
            row("bottom", 1.0, [[0, 3]]),
            row("top_load", 0.1, [[1, 1]]),
            row("top_attribution", 0.1, [[2, 16]]),
        ]
    )
    endpoint = {"mode": "mask", "dose": 1, "score": "refusal_onset", "direction": "decrease"}
    table = rival_table(Evidence(arms, endpoint, {}), "arms", "data")
    assert [row[3].text for row in table.rows] == ["beaten", "not beaten", "same experts"]
    assert rival_table(Evidence(arms[:1], endpoint, {}), "arms", "data") is None


def test_what_is_not_testable_needs_a_finding():
    verdict = {"verdict": "not testable", "checks": "[]"}
    assert other_way(verdict) == "a finding that can be tested"
