"""Skills that are known to sit in neurons: removed there, and kept everywhere else."""

from dataclasses import replace

import pandas as pd
import pytest
from lookup import lookup_ground, lookup_subject

from lmri.config import ConditionOptions, SkillsOptions
from lmri.errors import EvidenceError
from lmri.experiment.skills import run
from lmri.experiment.statements import statement_rows
from lmri.store import write_table

READS = {1: {"capital": 1.0}, 2: {"colour": 1.0}, 3: {"river": 1.0}}
OPTIONS = SkillsOptions(
    forget=(ConditionOptions("relations", "capital"),),
    retain=(ConditionOptions("relations"),),
    shares=(1 / 320, 2 / 320),
    scales=(0.5, 1.0, 2.0),
    draws=99,
)


@pytest.fixture(scope="module")
def removed():
    """Every relation has a neuron of its own."""
    writes = {1: {"capital": 4}, 2: {"colour": 4}, 3: {"river": 4}}
    return run(lookup_ground(lookup_subject(READS, writes), places=(0.25, 0.25, 0.5)), OPTIONS)


def outcomes(found):
    rows = statement_rows("lookup", "skills", found.statements, 0.05)
    names = rows["claim"].str.removeprefix("relations_capital_")
    return dict(zip(names, rows["outcome"], strict=True))


def test_a_skill_of_its_own_neurons_goes_and_the_rest_stays(removed):
    assert outcomes(removed) == {
        "adjust_forgets": "holds",
        "key_space_forgets": "holds",
        "adjust_spares": "fails",  # zeroing spares as much: no other relation needs the neuron
        "adjust_retains": "holds",
        "key_space_retains": "holds",
    }


def test_every_way_takes_the_skill_alone(removed):
    parts = removed.tables["relations_capital_parts"].set_index(["method", "role"])["loss"]
    for method in ("zero", "adjust", "key_space"):
        assert parts[method, "forgotten"] > 0.99
        assert abs(parts[method, "retained"]) < 1e-6


def test_a_smaller_cube_lets_more_prompts_through(removed):
    curve = (
        removed.tables["relations_capital_curves"].query("method == 'key_space'").set_index("dose")
    )
    forgotten = curve["exact_forgotten"]
    assert forgotten[0.5] < forgotten[1.0] <= forgotten[2.0] == 1.0
    assert curve["chosen"].sum() == 1


def test_moving_neurons_that_nothing_reads_removes_nothing():
    ground = lookup_ground(lookup_subject(READS, {neuron: {} for neuron in READS}, directly=4))
    found = run(ground, OPTIONS)
    assert outcomes(found)["adjust_forgets"] != "holds"
    losses = found.tables["relations_capital_parts"].set_index(["method", "role"])["loss"]
    assert losses["adjust", "forgotten"] == losses["zero", "forgotten"] == 0
    # What takes nothing away spares all else.
    assert outcomes(found)["adjust_retains"] == "not testable"


def test_a_skill_must_be_known_and_something_must_stay():
    ground = lookup_ground(lookup_subject(READS, {neuron: {} for neuron in READS}))
    unknown = (ConditionOptions("relations", "dish"),)
    with pytest.raises(EvidenceError, match="'condition' of experiment 'skills' must be one of"):
        run(ground, replace(OPTIONS, forget=unknown))
    with pytest.raises(EvidenceError, match="'task' of experiment 'skills' must be one of"):
        run(ground, replace(OPTIONS, retain=(ConditionOptions("sums"),)))
    with pytest.raises(EvidenceError, match="and 0 parts to retain"):
        run(ground, replace(OPTIONS, forget=(ConditionOptions("relations"),)))


def test_tables_are_written_as_they_are(removed, tmp_path):
    for name, table in removed.tables.items():
        write_table(tmp_path / f"{name}.parquet", table)
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / f"{name}.parquet"), table)
