"""Bands and folds that cannot be used are refused or left out, with the reason."""

import numpy as np
import pandas as pd
import pytest

from lmri.encode.bands import Band, design_of, one_hot
from lmri.encode.features import column_band, default_bands, known_bands, number_band
from lmri.encode.folds import carrier_folds, check_rows
from lmri.errors import EvidenceError


def _band(name, values, role="interest"):
    values = np.asarray(values, dtype=float).reshape(len(values), -1)
    return Band(name, role, tuple(f"c{i}" for i in range(values.shape[1])), values)


def test_bands_are_joined_in_their_order(rng, grouped):
    folds = grouped(10, 4)
    first, second = rng.normal(size=(40, 2)), rng.normal(size=(40, 3))
    X, layout = design_of([_band("n", first, "nuisance"), _band("b", second)], folds, "a test")
    assert (np.concatenate([first, second], axis=1) == X).all()
    assert layout.slices == {"n": slice(0, 2), "b": slice(2, 5)}
    assert layout.of_role("interest") == ("b",)
    assert layout.left_out == {}


def test_columns_and_bands_without_variance_are_left_out_with_the_reason(rng, grouped):
    folds = grouped(10, 4)
    values = rng.normal(size=(40, 3))
    values[:, 1] = 7
    bands = [_band("n", np.ones(40), "nuisance"), _band("b", values)]
    X, layout = design_of(bands, folds, "a test")
    assert X.shape == (40, 2)
    assert layout.names == ("b",)
    assert layout.left_out == {
        "n": "no variance: 1 in all 40 rows",
        "b.c1": "no variance: 7 in all 40 rows",
    }


def test_an_identity_can_say_nothing_of_others(grouped):
    folds = grouped(10, 4)
    names = np.repeat(np.arange(10), 4)
    bands = [one_hot("item", "interest", names), _band("b", np.tile([0, 1], 20))]
    _, layout = design_of(bands, folds, "a test")
    assert layout.names == ("b",)
    assert "nothing can be learned" in layout.left_out["item"]


def test_a_rare_class_in_every_fold_stays(grouped):
    folds = grouped(10, 4)
    rare = np.zeros(40)
    rare[[np.flatnonzero(folds.cell == cell)[0] for cell in range(5)]] = 1
    assert design_of([_band("b", rare)], folds, "a test")[1].left_out == {}


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (
            [_band("b", np.ones(40))],
            "needs a band of interest that varies.*no variance: 1 in all 40",
        ),
        ([_band("n", np.arange(40), "nuisance")], "needs a band of interest"),
        ([_band("b", np.arange(40)), _band("b", np.arange(40))], "names of their own. Got two 'b'"),
        ([_band("b", np.arange(39))], "'b' of a test must have 40 rows. Got 39"),
        ([_band("b", [np.nan, *range(39)])], "must be finite in every row. Got gaps in 'c0'"),
    ],
)
def test_bands_that_cannot_be_used_are_refused(bands, message, grouped):
    with pytest.raises(EvidenceError, match=message):
        design_of(bands, grouped(10, 4), "a test")


def test_a_band_knows_its_role_and_shape():
    with pytest.raises(EvidenceError, match="'role' of the band 'b' must be one of"):
        _band("b", [1, 2], "noise")
    with pytest.raises(EvidenceError, match=r"shape \(n_rows, 1\).*Got \(2, 2\)"):
        Band("b", "interest", ("one",), np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("values", "k", "message"),
    [
        (4, 5, "folds of a test need at least 5 values of 'carrier_item'.*Got 4"),
        (9, 2, "must be at least 3.*Got 2"),
    ],
)
def test_too_few_carriers_are_refused(values, k, message):
    names = pd.DataFrame({"carrier_item": np.repeat([f"v{i}" for i in range(values)], 3)})
    with pytest.raises(EvidenceError, match=message):
        carrier_folds(names, k, 0, "a test")


def test_trials_without_carriers_are_refused():
    with pytest.raises(EvidenceError, match=r"must be of carriers. Its trials have none"):
        carrier_folds(pd.DataFrame({"trial": ["a"]}), 5, 0, "a test")


def test_carriers_that_are_not_crossed_leave_nothing_to_train_on():
    table = pd.DataFrame({"carrier_a": [*"abc"] * 3, "carrier_b": np.repeat([*"xyz"], 3)})
    table = table[(table["carrier_a"] == "a") | (table["carrier_b"] == "x")]
    with pytest.raises(EvidenceError, match="not crossed"):
        carrier_folds(table, 3, 0, "a test")


def test_folds_have_their_share_of_every_class():
    table = pd.DataFrame(
        {
            "carrier_item": [f"v{i}" for i in range(20)],
            "class_item": ["rare"] * 5 + ["common"] * 15,
        }
    )
    folds = carrier_folds(table, 5, 3, "a test")
    assert np.bincount(folds.cell).tolist() == [4] * 5
    assert np.bincount(folds.cell[:5]).tolist() == [1] * 5
    again, other = (carrier_folds(table, 5, seed, "a test").cell for seed in (3, 4))
    assert (folds.cell == again).all()
    assert (folds.cell != other).any()


def test_fewer_rows_than_features_are_refused():
    check_rows(31, 30, "a test")
    with pytest.raises(EvidenceError, match=r"needs at least 31 rows for 30 features. Got 30"):
        check_rows(30, 30, "a test")
    with pytest.raises(EvidenceError, match="needs at least 20 rows"):
        check_rows(19, 3, "a test")


def test_columns_of_the_table_become_bands():
    years = column_band("year", pd.Series(["1900", "1910"]))
    assert years.columns == ("value", "log")
    assert years.values[:, 1] == pytest.approx(np.log1p([1900, 1910]))
    kinds = column_band("condition", pd.Series(["b", "a", "b"]))
    assert kinds.columns == ("a", "b")
    assert kinds.values.tolist() == [[0, 1], [1, 0], [0, 1]]


def test_bands_that_a_task_does_not_have_are_told():
    table = pd.DataFrame({"trial": [f"t{i}" for i in range(65)], "year": range(65), "kind": "a"})
    kept, reasons = known_bands(table, ["kind", "year", "year", "trial", "class_year", "embedding"])
    assert kept == ["kind", "year", "embedding"]
    assert reasons["class_year"] == "the trials of this task have no such column"
    assert reasons["trial"].startswith("65 labels, of at most 64: an identity")


def test_numbers_of_a_text():
    band = number_band(["how much is 3 + 8 ?", "in 1921", "nothing"])
    assert band.values[:, :2].tolist() == [[3, 8], [1921, 0], [0, 0]]
    assert band.values[1, 2] == pytest.approx(np.log(1922))


def test_default_bands_are_what_differs():
    table = pd.DataFrame(
        {"condition": ["a", "b"], "family": "one", "class_place": ["x", "y"], "class_year": "x"}
    )
    assert default_bands(table) == ("condition", "class_place", "numbers", "embedding")
