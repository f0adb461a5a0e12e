"""Circuits that are known to share neurons, or none."""

from dataclasses import replace

import pandas as pd
import pytest
from lookup import RELATIONS, lookup_ground, lookup_subject

from lmri.config import CircuitReuseOptions, ConditionOptions
from lmri.errors import EvidenceError
from lmri.experiment.circuit_reuse import run
from lmri.experiment.statements import statement_rows
from lmri.store import write_table

OPTIONS = CircuitReuseOptions(
    behaviours=tuple(ConditionOptions("relations", own) for own in RELATIONS),
    kind="neuron",
    units=3,
    draws=99,
)


@pytest.fixture(scope="module")
def shared():
    """Capitals and colours share two neurons; rivers fail for want of one that capitals have."""
    both = {"capital": 1.0, "colour": 1.0}
    reads = {1: both, 2: both, 3: {"colour": 1.0}, 4: {"river": 1.0}, 5: {"capital": 1.0}}
    writes = {
        1: {"capital": 1.5, "colour": 1.5},
        2: {"capital": 1.5, "colour": 1.5},
        3: {"colour": 1.5},
        4: {"river": 1.2, "capital": -6},
        5: {"capital": 1.5, "river": 3},
    }
    return run(lookup_ground(lookup_subject(reads, writes)), OPTIONS)


def outcomes(found):
    rows = statement_rows("lookup", "circuit_reuse", found.statements, 0.05)
    return dict(zip(rows["claim"], rows["outcome"], strict=True))


def named(relation):
    return f"relations, {relation}"


def test_what_is_shared_holds(shared):
    found = outcomes(shared)
    assert found.pop("apart") == "undecided"  # 16 trials of each are few
    assert found == dict.fromkeys(("overlap", "own", "cross", "repair"), "holds")
    apart, repair = shared.statements[-2:]
    # Rivers are not there to be lost: that they stay is no evidence.
    assert apart.n == 32
    assert apart.statement.endswith("(nothing to lose: 'relations, river')")
    assert repair.statement == (
        "the neurons of dense MLPs of 'relations, capital', switched on, mend 'relations, river'"
    )


def test_circuits_are_the_planted_neurons(shared):
    units = shared.tables["units"].groupby("behaviour")["unit"].apply(set)
    assert units[named("capital")] == {"[1, 1]", "[1, 2]", "[1, 5]"}
    assert units[named("colour")] == {"[1, 1]", "[1, 2]", "[1, 3]"}
    pairs = shared.tables["overlap"].set_index(["a", "b"])["shared"]
    assert pairs[named("capital"), named("colour")] == 2
    assert pairs[named("capital"), named("river")] == 0


def test_a_circuit_harms_whom_it_serves(shared):
    cross = shared.tables["cross"].set_index(["circuit_of", "behaviour"])["loss"]
    assert cross[named("capital"), named("colour")] > 0.9
    assert cross[named("river"), named("capital")] == 0
    assert cross[named("capital"), named("capital")] > 0.9


def test_circuits_apart_share_nothing_and_mend_nothing():
    reads = {1: {"capital": 1.0}, 2: {"colour": 1.0}, 3: {"river": 1.0}}
    writes = {1: {"capital": 4}, 2: {"colour": 4}, 3: {"river": 4}}
    found = run(lookup_ground(lookup_subject(reads, writes)), replace(OPTIONS, units=1))
    assert outcomes(found) == {
        "overlap": "fails",
        "own": "holds",
        "cross": "fails",
        "apart": "holds",
        "repair": "not testable",
    }
    assert found.statements[-1].reason.startswith("no behaviour fails on calibration trials")


def test_where_no_behaviour_is_there_none_stays():
    found = run(lookup_ground(lookup_subject({}, {})), replace(OPTIONS, units=1))
    assert outcomes(found)["apart"] == "not testable"
    assert found.statements[3].reason.startswith("intact nothing is there to be lost")


def test_behaviours_and_kinds_must_be_there(shared):
    ground = lookup_ground(lookup_subject({}, {}))
    with pytest.raises(EvidenceError, match="The 'kind' of experiment 'circuit_reuse' must be one"):
        run(ground, replace(OPTIONS, kind="expert"))
    unknown = (*OPTIONS.behaviours, ConditionOptions("relations", "dish"))
    with pytest.raises(EvidenceError, match="'condition' of experiment 'circuit_reuse' must be"):
        run(ground, replace(OPTIONS, behaviours=unknown))


def test_tables_are_written_as_they_are(shared, tmp_path):
    for name, table in shared.tables.items():
        write_table(tmp_path / f"{name}.parquet", table)
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / f"{name}.parquet"), table)
