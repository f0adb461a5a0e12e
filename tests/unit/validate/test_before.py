"""What is refused before any trial is run, in one line each."""

import json
from pathlib import Path

import pytest

from lmri.errors import EvidenceError, LmriError, StoreError
from lmri.store import write_table
from lmri.store.claims import CLAIMS, Where
from lmri.validate.before import check_finding

PATH = Path("findings/f.json")
SHAMS = [[[0, neuron]] for neuron in range(19)]


@pytest.fixture(scope="module")
def stimuli(planted_trials, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stimuli")
    write_table(folder / "events.parquet", planted_trials)
    return folder


def claim(kind: str, **changes) -> dict:
    values = {
        "unit_kind": "neuron",
        "units": ((1, 7),),
        "mode": "zero",
        "score": "refusal_onset",
        "margin": 0.1,
        "alpha": 0.05,
        "trials": Where("events", ("sensitive",)),
        "least": 30,
    }
    return json.loads(json.dumps(CLAIMS[kind](**{**values, **changes}).to_dict()))


@pytest.fixture
def check(planted_subject, make_finding, stimuli):
    """The function that checks a finding with some claims and changes of its endpoint."""

    def checked(*claims, units=([1, 7],), **endpoint):
        finding = make_finding("neuron", list(units), SHAMS, claims=list(claims))
        finding["primary_endpoint"] |= endpoint
        return check_finding(finding, PATH, planted_subject.anatomy, stimuli)

    return checked


def test_a_sound_finding_gives_its_claims(check):
    assert [own.kind for own in check(claim("necessity"), claim("sufficiency"))] == [
        "necessity",
        "sufficiency",
    ]
    assert check() == []


def test_units_that_do_not_exist(check):
    with pytest.raises(StoreError, match=r"f.json: The units .* Got layer 1, neuron 48"):
        check(units=[[1, 48]])
    with pytest.raises(StoreError, match=r"f.json: The units .* Got layer 5, neuron 0"):
        check(claim("necessity", units=((5, 0),)))


def test_a_claim_of_another_subject(check):
    own = claim("transfer", source="someone", subject="planted")
    with pytest.raises(StoreError, match=r"'source' of the claim .* 'planted'. Got 'someone'"):
        check(own)


def test_trials_that_were_selected_on(check):
    with pytest.raises(EvidenceError, match=r"must be 'evaluation'.* Got 'selection'"):
        check(claim("necessity", split="selection"))


def test_carriers_in_both_splits(planted_subject, planted_trials, make_finding, tmp_path):
    table = planted_trials.copy()
    table.loc[0, "split"] = "evaluation"  # of a place that is selected on
    write_table(tmp_path / "events.parquet", table)
    finding = make_finding("neuron", [[1, 7]], SHAMS)
    with pytest.raises(EvidenceError, match=r"must share no place .* Got 'p0' in both"):
        check_finding(finding, PATH, planted_subject.anatomy, tmp_path)


def test_too_few_controls(check):
    with pytest.raises(EvidenceError, match=r"'shams' .* must be at least 39, .* Got 19"):
        check(claims=2)


def test_no_bystander(check):
    with pytest.raises(EvidenceError, match=r"'bystanders' .* at least one .* Got none"):
        check(bystanders=[])


def test_more_doses_than_units(check):
    with pytest.raises(StoreError, match=r"'doses' .* at most its 1 units. Got 4"):
        check(claim("dose", doses=(1, 4)))


def test_messages_are_one_line(check):
    with pytest.raises(LmriError) as caught:
        check(bystanders=[])
    assert "\n" not in str(caught.value)
