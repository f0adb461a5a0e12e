"""Splits are drawn over carriers: the same everywhere, and trials never mix them."""

from collections import Counter

import pandas as pd
import pytest

from lmri.config import SplitOptions
from lmri.stimuli import assign_splits, split_carriers

SHARES = SplitOptions()  # .34, .16, .5
CLASSES = {f"p{i:02d}": "sensitive" if i < 24 else "null" for i in range(60)}


def grid(places=12, years=8):
    rows = [
        {
            "trial": f"{p}:{y}",
            "carrier_place": f"p{p}",
            "carrier_year": f"y{y}",
            "class_place": "sensitive" if p < 4 else "null",
            "class_year": "sensitive" if y < 4 else "null",
        }
        for p in range(places)
        for y in range(years)
    ]
    return pd.DataFrame(rows)


def test_known_draw():
    """The same in every process and on every machine."""
    classes = dict.fromkeys("abcdef", "null")
    got = split_carriers(classes, "place", SHARES, 0)
    assert got == {
        "a": "evaluation",
        "b": "selection",
        "c": "evaluation",
        "d": "selection",
        "e": "calibration",
        "f": "evaluation",
    }


def test_draws_depend_on_the_seed_and_on_the_name_of_the_carrier_only():
    first = split_carriers(CLASSES, "place", SHARES, 0)
    assert split_carriers(dict(reversed(CLASSES.items())), "place", SHARES, 0) == first
    assert split_carriers(CLASSES, "place", SHARES, 1) != first
    assert split_carriers(CLASSES, "year", SHARES, 0) != first


def test_shares_hold_within_every_class():
    splits = split_carriers(CLASSES, "place", SHARES, 0)
    counts = Counter((CLASSES[carrier], split) for carrier, split in splits.items())
    assert counts == {
        ("sensitive", "selection"): 8,
        ("sensitive", "calibration"): 4,
        ("sensitive", "evaluation"): 12,
        ("null", "selection"): 12,
        ("null", "calibration"): 6,
        ("null", "evaluation"): 18,
    }


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("shares", [(0.34, 0.16, 0.5), (1, 0, 0), (0.2, 0.2, 0.6)])
def test_every_carrier_has_one_split_and_shares_are_kept_to_one_carrier(count, shares):
    options = SplitOptions(*shares)
    splits = split_carriers({str(i): "null" for i in range(count)}, "x", options, 0)
    assert len(splits) == count
    counts = Counter(splits.values())
    for name, share in zip(("selection", "calibration", "evaluation"), shares, strict=True):
        assert abs(counts[name] - share * count) <= 1


def test_a_trial_is_in_a_split_only_with_all_of_its_carriers():
    trials = grid()
    table = assign_splits(trials, ("place", "year"), SHARES, 0)
    owners = {}
    for name in ("place", "year"):
        column = f"carrier_{name}"
        classes = dict(zip(trials[column], trials[f"class_{name}"], strict=True))
        owners[name] = split_carriers(classes, name, SHARES, 0)
    kept = set(table["trial"])
    for row in trials.itertuples():
        splits = {owners["place"][row.carrier_place], owners["year"][row.carrier_year]}
        assert (row.trial in kept) == (len(splits) == 1)
    for row in table.itertuples():
        assert row.split == owners["place"][row.carrier_place]
    assert 0 < len(table) < len(trials)
    assert table.index.tolist() == list(range(len(table)))


def test_no_carrier_is_in_two_splits():
    table = assign_splits(grid(), ("place", "year"), SHARES, 3)
    for column in ("carrier_place", "carrier_year"):
        assert (table.groupby(column)["split"].nunique() == 1).all()


def test_trials_keep_their_order():
    table = assign_splits(grid(), ("place", "year"), SHARES, 0)
    order = {trial: i for i, trial in enumerate(grid()["trial"])}
    assert table["trial"].map(order).is_monotonic_increasing
