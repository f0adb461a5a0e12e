"""Carriers of trials: named by the study, or read off the table."""

import pandas as pd

from lmri.store import carriers_of

TABLE = pd.DataFrame({"carrier_year": ["y"], "class_place": ["c"], "carrier_place": ["p"]})


def test_carriers_are_read_off_the_table_in_one_order():
    assert carriers_of(TABLE) == ("place", "year")
    assert carriers_of(TABLE[TABLE.columns[::-1]]) == ("place", "year")
    assert carriers_of(TABLE[["class_place"]]) == ()


def test_carriers_of_the_study_are_kept_in_its_order():
    assert carriers_of(TABLE, ["year", "place"]) == ("year", "place")
    assert carriers_of(TABLE, ["year"]) == ("year",)
