"""The stage with claims: its tables, another subject, and findings without any."""

from dataclasses import replace

import pytest

from lmri.config import (
    ClaimOptions,
    ConditionOptions,
    ContrastOptions,
    EvidenceOptions,
    FunctionOptions,
    ScorersOptions,
    ValidateOptions,
)
from lmri.errors import ScoreError, StoreError
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

    def validated(*asked, known=True, deciding=None, score="refusal_onset", **changes):
        about = [(1, 7)], [1], 1, CONTRAST, replace(EVIDENCE, score=score)
        claims = state_claims(Stated("planted", "neuron", "zero", *about), asked)
        finding = {**make_finding("neuron", [[1, 7]], SHAMS), "claims": claims, **changes}
        for part in ("primary_endpoint", "secondary"):
            finding[part] = {**finding[part], "score": score}
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
            scorers=deciding,
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


@pytest.fixture(scope="module")
def says_no(tmp_path_factory) -> ScorersOptions:
    """A user's scorer, which is 1 where the whole answer is the refusal."""
    folder = tmp_path_factory.mktemp("scorers")
    code = "def says_no(answer, trial):\n    return float(answer == trial['refusal'])\n"
    (folder / "lab_says_no.py").write_text(code, encoding="utf-8")
    own = FunctionOptions("says_no", "lab_says_no:says_no", str(folder), 0.0, 1.0)
    return ScorersOptions(names=("says_no",), functions=(own,))


def test_a_verdict_may_rest_on_a_scorer_of_the_user(run, says_no):
    asked = ClaimOptions("sufficiency"), ClaimOptions("specificity")
    first, _, by_onset = run(*asked)
    made = {"scorers": {"says_no": "lab_says_no:says_no"}}
    claims, trials, verdicts = run(*asked, deciding=says_no, score="says_no", **made)
    assert (trials["says_no"] == trials["refusal_exact"]).all() and trials["says_no"].nunique() == 2
    (verdict,), (other,) = verdicts.to_dict("records"), by_onset.to_dict("records")
    assert (verdict["score"], verdict["verdict"]) == ("says_no", "confirmed")
    same = ["p", "effect", "low", "high", "sham_most", "kernel_agreeing"]
    assert [verdict[name] for name in same] == [other[name] for name in same]
    assert claims["outcome"].tolist() == first["outcome"].tolist()


def test_a_scorer_that_changed_since_the_finding_is_refused(run, says_no):
    made = {"scorers": {"says_no": "lab_says_no:an_older_one"}}
    words = r"must be those of the study, 'says_no lab_says_no:says_no'. Got .*an_older_one.*again"
    with pytest.raises(ScoreError, match=words):
        run(deciding=says_no, score="says_no", **made)
    with pytest.raises(ScoreError, match=r"of the study, nothing\. Got 'says_no"):
        run(score="says_no", **made)
