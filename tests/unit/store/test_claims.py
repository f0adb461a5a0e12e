"""Claims: what is written into a finding is what is read back, and nothing else is taken."""

import json

import pytest

from lmri.errors import StoreError
from lmri.store.claims import CLAIMS, Cumulativity, Dose, Repair, Specificity, Transfer, Where
from lmri.store.stated import read_claim, read_claims

SHARED = {
    "unit_kind": "expert",
    "units": ((2, 16), (2, 17)),
    "mode": "mask",
    "score": "refusal_onset",
    "margin": 0.1,
    "alpha": 0.05,
    "trials": Where("events", ("sensitive",)),
    "least": 60,
}
OWN = {
    "specificity": {"bystanders": (Where("copying"), Where("events", ("benign",)))},
    "dose": {"doses": (1, 2)},
    "cumulativity": {"parts": (((2, 16),), ((2, 17),))},
    "jointness": {"parts": (((2, 16),), ((2, 17),))},
    "transfer": {"source": "a", "subject": "b"},
    "repair": {"source": "a", "subject": "a", "source_trials": Where("events", ("sensitive",))},
}


def claim(kind: str):
    return CLAIMS[kind](**SHARED, **OWN.get(kind, {}))


@pytest.mark.parametrize("kind", CLAIMS)
def test_a_claim_survives_json(kind):
    own = claim(kind)
    values = json.loads(json.dumps(own.to_dict()))
    assert read_claim(values, "a finding") == own
    assert {"kind", "arms", "controls", "family", "units", "margin", "split"} <= set(values)
    assert own.statement.endswith(".") and own.score in own.statistic


def test_claims_of_one_kind_are_told_apart_by_their_trials():
    there = claim("transfer")
    here = Transfer(**SHARED, source="a", subject="a")
    assert there.name == "transfer: events, sensitive in b" != here.name
    assert "subject 'b', at the same places as in 'a'" in there.statement
    assert "of the subject" not in here.statement
    assert "forced on" in Repair(**{**SHARED, "mode": "force"}, **OWN["repair"]).statement


def test_only_the_parts_of_the_verdict_are_primary():
    primary = {kind for kind, own in CLAIMS.items() if own.family == "primary"}
    assert primary == {"necessity", "specificity"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "magic"}, r"The 'kind' of a claim of f.json must be one of .* Got 'magic'"),
        ({"more": 1}, r"f.json: the claim 'dose' must have the fields .* Got another: 'more'"),
        ({"margin": None}, r"Got none: 'margin'"),
        ({"arms": ["off", "intact"]}, r"the 'arms' of a claim 'dose' must be \['largest dose off'"),
        ({"family": "primary"}, r"the 'family' of a claim 'dose' must be 'secondary'"),
    ],
)
def test_a_malformed_claim_is_refused(change, message):
    values = {**claim("dose").to_dict(), **change}
    values = {key: value for key, value in values.items() if value is not None}
    with pytest.raises(StoreError, match=message):
        read_claim(values, "f.json")


def test_a_finding_without_claims_claims_nothing():
    assert read_claims({}, "f.json") == []
    assert [type(own) for own in read_claims({"claims": [claim("dose").to_dict()]}, "f")] == [Dose]
    assert isinstance(claim("cumulativity"), Cumulativity)
    assert isinstance(claim("specificity"), Specificity)
