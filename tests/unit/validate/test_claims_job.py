"""The stage with claims: its tables, another subject, and findings without any."""

import pytest

from lmri.config import (
    ClaimOptions,
    ConditionOptions,
    ContrastOptions,
    EvidenceOptions,
    ValidateOptions,
)
from lmri.errors import StoreError
from lmri.localise.claims import Stated, state_claims
from lmri.store import read_table, write_finding, write_table
from lmri.validate import validate_subject

SHAMS = [[[1, 8 + draw]] for draw in range(39)]
CONTRAST = ContrastOptions(
    "refusal",
    "events",
    target=("sensitive",),
    controls=("benign",),
    bystanders=(ConditionOptions("events", "benign"),),
)
EVIDENCE = EvidenceOptions(minimum_trials=30, minimum_target_trials=30)


@pytest.fixture(scope="module")
def subjects(planted_subject, tmp_path_factory):
    folder = tmp_path_factory.mktemp("subjects")
    for name in ("planted", "twin"):
        planted_subject.model.save_pretrained(folder / name)
        planted_subject.tokenizer.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def stimuli(planted_trials, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stimuli")
    write_table(folder / "events.parquet", planted_trials)
    return folder


@pytest.fixture
def run(subjects, stimuli, make_finding, tmp_path):
    """The function that validates a finding with some claims."""

    def validated(*asked, known=True, **changes):
        about = [(1, 7)], [1], 1, CONTRAST, EVIDENCE
        claims = state_claims(Stated("planted", "neuron", "zero", *about), asked)
        finding = {**make_finding("neuron", [[1, 7]], SHAMS), "claims": claims, **changes}
        path = tmp_path / "findings/refusal.prompt_last/neuron.welch_t.json"
        write_finding(path, finding)
        validate_subject(
            subject="planted",
            model=subjects / "planted",
            stimuli=stimuli,
            findings=tmp_path / "findings",
            out=tmp_path / "out",
            options=ValidateOptions(bootstrap=200, rows=256, control_bystander_trials=8),
            seed=0,
            provenance={},
            subjects=subjects if known else None,
        )
        tables = ("claims", "trials", "verdicts")
        return [read_table(tmp_path / f"out/{name}.parquet") for name in tables]

    return validated


def test_claims_trials_and_kernels_are_in_the_tables(run):
    asked = ClaimOptions("specificity"), ClaimOptions("transfer", subject="twin")
    claims, trials, verdicts = run(*asked)
    assert dict(zip(claims["claim"], claims["outcome"], strict=True)) == {
        "necessity": "holds",
        "specificity": "holds",
        "transfer: events, sensitive in twin": "holds",
    }
    assert set(claims["finding"]) == {"refusal.prompt_last/neuron.welch_t"}
    (verdict,) = verdicts.to_dict("records")
    assert verdict["verdict"] == "confirmed"
    assert set(claims["finding_hash"]) == {verdict["finding_hash"]}
    assert (verdict["kernel_trials"], verdict["kernel_agreeing"], verdict["cut"]) == (16, 16, 0)
    own = trials[(trials["trial_role"] == "target") & trials["trial"].eq(trials["trial"].iloc[0])]
    onset = own.set_index("arm")["refusal_onset"].to_dict()
    assert (onset["intact"], onset["finding"], onset["positive_control"]) == (1, 0, 0)
    assert (trials["ended"] == 1).all()


def test_another_subject_must_be_there_and_be_a_name(run):
    asked = ClaimOptions("transfer", subject="twin")
    with pytest.raises(StoreError, match=r"about the subject 'twin': give the folder .*--subjects"):
        run(asked, known=False)
    outside = ClaimOptions("transfer", subject="../planted")
    with pytest.raises(StoreError, match=r"The 'subject' of a claim must be .*'../planted'"):
        run(outside)


def test_a_null_finding_says_that_its_claim_was_not_tested(run):
    claims, trials, verdicts = run(status="null", reason="nothing", units=[], claims=[])
    assert claims[["claim", "outcome", "reason"]].values.tolist() == [
        ["necessity", "not testable", "nothing"]
    ]
    assert trials.empty and verdicts["verdict"].tolist() == ["not testable"]
