"""Findings that are re-run in a subject that is sparse already."""

import pytest
import torch

from lmri.config import ValidateOptions
from lmri.errors import SparseError
from lmri.sparse.plan import SparsePlan
from lmri.sparse.plan_file import write_plan
from lmri.sparse.rules import NeuronThreshold
from lmri.store import read_table, write_finding, write_table
from lmri.validate import validate_subject
from lmri.validate.rerun import Rerun

OPTIONS = ValidateOptions(bootstrap=50, rows=256, control_bystander_trials=8)
HASH = "5" * 64
SPARSE = ["intact_sparse", "finding_sparse"]


def plan(threshold: float) -> SparsePlan:
    """Neurons of the last layer are computed above a threshold of their gate."""
    rule = NeuronThreshold(1, "dense", torch.tensor(threshold))
    return SparsePlan("cats", HASH, (rule,))


NOTHING, EVERYTHING = plan(0.0), plan(1e6)
"""What they skip of the layer of the planted neuron."""


@pytest.fixture(scope="module")
def stimuli(planted_trials, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stimuli")
    write_table(folder / "events.parquet", planted_trials)
    return folder


def explored(finding: dict) -> dict:
    """The same finding without a primary endpoint."""
    return {key: value for key, value in finding.items() if key != "primary_endpoint"}


def sparse_rows(subject, finding, stimuli, within):
    arms = Rerun(subject, finding, stimuli, OPTIONS, 0, plan=within).explore()
    rows = arms[arms["arm"].isin(SPARSE)]
    assert rows["arm"].tolist() == SPARSE
    return arms, rows.set_index("arm")


@pytest.mark.parametrize(
    ("kind", "unit", "effect"),
    [("neuron", [1, 7], -1), ("neuron", [1, 8], 0), ("head", [1, 0], 0), ("layer", [1], -1)],
)
def test_a_plan_that_skips_nothing_leaves_the_effect_as_it_is(
    planted_subject, make_finding, stimuli, kind, unit, effect
):
    finding = explored(make_finding(kind, [unit], [[unit]]))
    arms, rows = sparse_rows(planted_subject, finding, stimuli, NOTHING)
    assert rows["effect"].tolist() == [0, effect]
    assert rows["effect"].iloc[1] == arms.set_index("arm").loc["finding", "effect"]
    assert rows["kind"].tolist() == [kind] * 2
    # Beside, and deciding nothing.
    assert not rows["primary"].any()
    assert rows.loc["intact_sparse", "mode"] == "cats"
    assert rows.loc["finding_sparse", "units"] == str([unit])


def test_a_finding_has_no_effect_left_where_the_plan_took_its_units(
    planted_subject, make_finding, stimuli
):
    finding = explored(make_finding("neuron", [[1, 7]], [[[1, 8]]]))
    arms, rows = sparse_rows(planted_subject, finding, stimuli, EVERYTHING)
    assert arms.set_index("arm").loc["finding", "effect"] == -1
    # Beside the dense subject, and beside the sparse one.
    assert rows["effect"].tolist() == [-1, 0]
    assert rows["value"].tolist() == [0, 0]
    assert rows["intact"].tolist() == [1, 0]


def test_the_dose_of_the_endpoint_is_run_and_the_verdict_is_the_same(
    planted_subject, make_finding, stimuli
):
    ranked = [[1, 7], [1, 8], [0, 3]]
    finding = make_finding("neuron", ranked, [[[1, 20 + i], [1, i], [0, i]] for i in range(3)])
    finding["secondary"] |= {"doses": [1, 3], "dose": 1}
    finding["primary_endpoint"] |= {"dose": 1, "units": ranked[:1]}

    def confirm(within):
        return Rerun(planted_subject, finding, stimuli, OPTIONS, 0, plan=within).confirm()

    (dense, evidence, _), (arms, beside, _) = confirm(None), confirm(EVERYTHING)
    assert not dense["arm"].isin(SPARSE).any()
    assert beside == evidence
    rows = arms[arms["arm"].isin(SPARSE)]
    assert rows["arm"].tolist() == SPARSE
    assert rows["dose"].tolist() == [0, 1]
    assert set(rows["trial_role"]) == {"target"} and set(rows["score"]) == {"refusal_onset"}
    rest = arms[~arms["arm"].isin(SPARSE)].reset_index(drop=True)
    assert rest.equals(dense.reset_index(drop=True))


@pytest.fixture(scope="module")
def model(planted_subject, tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    planted_subject.model.save_pretrained(folder)
    planted_subject.tokenizer.save_pretrained(folder)
    return folder


def validate(findings, model, stimuli, folder, within, subject=HASH):
    for phase, finding in findings:
        path = folder / f"findings/refusal.{phase}/{finding['kind']}.welch_t.json"
        write_finding(path, {**finding, "phase": phase})
    if within is not None:
        write_plan(folder / "cats.json", within)
    validate_subject(
        subject="planted",
        model=model,
        stimuli=stimuli,
        findings=folder / "findings",
        out=folder / "out",
        options=OPTIONS,
        seed=0,
        provenance={"subject": subject},
        plan=None if within is None else folder / "cats.json",
    )
    return read_table(folder / "out/arms.parquet")


def test_every_finding_of_a_study_is_run_under_its_plan(model, make_finding, stimuli, tmp_path):
    neuron = make_finding("neuron", [[1, 7]], [[[1, 20]], [[1, 21]]])
    findings = [
        ("prompt_last", neuron),
        ("prompt_last", explored(make_finding("head", [[1, 0]], [[[0, 1]]]))),
        ("content", explored(neuron)),
        ("content", {**make_finding("layer", [], []), "status": "null", "reason": "nothing"}),
    ]
    arms = validate(findings, model, stimuli, tmp_path / "with", NOTHING)
    rows = arms[arms["arm"] == "finding_sparse"]
    # None of a finding without units.
    wanted = [("content", "neuron"), ("prompt_last", "head"), ("prompt_last", "neuron")]
    assert sorted(zip(rows["phase"], rows["kind"], strict=True)) == wanted
    assert rows.set_index("kind")["effect"].to_dict() == {"neuron": -1, "head": 0}
    without = validate(findings, model, stimuli, tmp_path / "without", None)
    assert not without["arm"].isin(SPARSE).any()


def test_a_plan_of_another_subject_is_refused(model, make_finding, stimuli, tmp_path):
    finding = make_finding("neuron", [[1, 7]], [[[1, 20]]])
    with pytest.raises(SparseError, match="subject"):
        validate([("prompt_last", finding)], model, stimuli, tmp_path, NOTHING, subject="6" * 64)
    assert not (tmp_path / "out").exists()
