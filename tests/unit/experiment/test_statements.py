"""Statements are corrected for each other, decided, and never lost."""

import math

import pandas as pd
import pytest

from lmri.errors import LmriError
from lmri.experiment import Drawn, Outcome, Statement
from lmri.experiment.statements import statement_rows
from lmri.validate.claims import CLAIM_COLUMNS


def statement(claim, p, low=0.1, high=0.3, **more):
    numbers = {"effect": 0.2, "threshold": 0.0, "n": 40, "n_carriers": 8}
    return Statement(
        claim,
        "It does.",
        low=low,
        high=high,
        p=p,
        controls="9 draws",
        score="exact",
        **{**numbers, **more},
    )


def rows(*statements):
    return statement_rows("me", "mine", statements, 0.05).set_index("claim")


def test_testable_statements_are_corrected_for_each_other_only():
    untested = Statement.untested("c", "It does.", "there is nothing")
    found = rows(statement("a", 0.02), statement("b", 0.03), untested)
    assert found["p_corrected"].tolist()[:2] == [0.04, 0.04]
    assert found["outcome"].tolist() == ["holds", "holds", "not testable"]
    assert found.loc["c", "reason"] == "there is nothing"
    assert math.isnan(found.loc["c", "p_corrected"])
    third = rows(statement("a", 0.02), statement("b", 0.03), statement("c", 0.9))
    assert third["outcome"].tolist() == ["undecided", "undecided", "undecided"]


def test_what_could_not_have_failed_is_not_testable():
    stays, falls = statement("b", 0.01, given="a"), {"low": -0.3, "high": -0.1}
    assert rows(statement("a", 0.01), stays)["outcome"].tolist() == ["holds", "holds"]
    found = rows(statement("a", 0.2), stays)
    assert found["outcome"].tolist() == ["undecided", "not testable"]
    assert found.loc["b", "reason"].startswith("'a' does not hold")
    assert math.isnan(found.loc["b", "p_corrected"])
    # It counted while 'a' was decided, and what failed has failed.
    assert found["family"].tolist() == ["2 statements (Holm)", ""]
    found = rows(statement("a", 0.03), statement("b", 1.0, given="a", **falls))
    assert found["outcome"].tolist() == ["undecided", "fails"]
    with pytest.raises(ValueError, match="given claims that are not stated"):
        Outcome([stays])


def test_a_statement_fails_where_its_interval_is_below_its_threshold():
    found = rows(statement("a", 1.0, low=-0.3, high=0.1, threshold=0.1))
    assert found.loc["a", "outcome"] == "fails"
    no_interval = statement("a", 0.001, low=math.nan, high=math.nan)
    assert rows(no_interval).loc["a", "outcome"] == "holds"


def test_rows_have_the_columns_of_claims():
    found = statement_rows("me", "mine", [statement("a", 0.01)], 0.05)
    assert list(found.columns) == list(CLAIM_COLUMNS)
    own = found.iloc[0]
    assert (own["subject"], own["contrast"], own["kind"]) == ("me", "mine", "experiment")
    assert (own["finding"], own["family"]) == ("experiments/me/mine", "1 statements (Holm)")
    assert statement_rows("me", "mine", [], 0.05).columns.tolist() == list(CLAIM_COLUMNS)


def drawn(**changes):
    values = {"table": "t", "kind": "line", "x": "x", "y": "y", "low": None, "high": None}
    return Drawn(**{**values, "series": None, "title": "T", "caption": "C", **changes})


def test_what_an_experiment_does_wrong_is_no_users_error():
    table = {"t": pd.DataFrame({"x": [1], "y": [2]})}
    assert Outcome([], table, {"t": "All."}, [drawn()])
    with pytest.raises(ValueError, match="no column"):
        Outcome([], table, {}, [drawn(y="z")])
    with pytest.raises(ValueError, match="twice"):
        Outcome([statement("a", 0.1), statement("a", 0.1)])
    with pytest.raises(ValueError, match=r"p of the statement 'a' must be in \[0, 1\]"):
        statement("a", math.nan)
    with pytest.raises(ValueError, match="kind of a figure"):
        drawn(kind="pie")
    with pytest.raises(ValueError, match="must have a series"):
        drawn(kind="heat")
    twice = {"t": pd.DataFrame({"x": [1, 1], "y": [2, 2], "z": [3.0, 4.0]})}
    with pytest.raises(ValueError, match="twice"):
        Outcome([], twice, {}, [drawn(kind="heat", series="z")])
    with pytest.raises(ValueError, match="Captions"):
        Outcome([], {"statements": table["t"]})
    with pytest.raises(LmriError, match="'name' of a table"):
        Outcome([], {"../t": table["t"]})
