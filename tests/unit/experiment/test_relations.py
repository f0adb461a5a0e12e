"""Units of relations that are known: they add up, serve another relation, or stand in its way."""

from dataclasses import replace

import pytest
from lookup import lookup_ground, lookup_subject

from lmri.config import RelationsOptions
from lmri.errors import EvidenceError
from lmri.experiment.relations import run
from lmri.experiment.statements import statement_rows

OPTIONS = RelationsOptions(kinds=("neuron",), phases=("content", "prompt_last"), draws=99)
CLAIMS = ("own", "selectivity", "cumulativity", "versatility", "interference")


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """Capitals have two neurons: the second serves colours, the first hinders rivers."""
    reads = {
        1: {"capital": 1.5, "river": 1.0},
        2: {"capital": 1.0, "colour": 1.0},
        3: {"colour": 1.0},
        4: {"river": 1.0},
    }
    writes = {
        1: {"capital": 2.3, "river": -2},
        2: {"capital": 2.3, "colour": 2.3},
        3: {"colour": 2.3},
        4: {"river": 4},
    }
    return lookup_ground(lookup_subject(reads, writes), tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def planted(ground):
    return run(ground, OPTIONS)


def outcomes(found):
    rows = statement_rows("lookup", "relations", found.statements, 0.05)
    return dict(zip(rows["claim"].str.removeprefix("neuron_"), rows["outcome"], strict=True))


def test_what_is_planted_holds(planted):
    assert outcomes(planted) == dict.fromkeys(CLAIMS, "holds")
    told = {own.claim: own.statement for own in planted.statements}
    assert (
        told["neuron_interference"]
        == "'river' improves without the 2 neurons of dense MLPs of 'capital'"
    )


def test_the_planted_neurons_are_found(planted):
    units = planted.tables["neuron_units"]
    first = units.groupby("relation", sort=False)["unit"].apply(list)
    assert first["capital"] == ["[1, 1]", "[1, 2]"]
    assert first["colour"] == ["[1, 3]", "[1, 2]"]
    assert first["river"][0] == "[1, 4]"


def test_the_matrix_has_every_relation_under_the_units_of_every_other(planted):
    matrix = planted.tables["neuron_matrix"].set_index(["units_of", "relation"])["loss"]
    assert len(matrix) == 9
    assert matrix["capital", "capital"] > 0.99
    assert matrix["colour", "capital"] == pytest.approx(matrix["capital", "colour"], abs=0.1)
    assert matrix["capital", "river"] < -0.8
    assert matrix["river", "capital"] == 0


def test_doses_are_beside_others_and_random_sets(planted):
    doses = planted.tables["neuron_doses"].set_index(["units_of", "dose"])["loss"]
    assert doses["own", 2] > doses["own", 1] + 0.2
    assert abs(doses["random", 2]) < 0.05


def test_neurons_that_tell_relations_apart_and_write_nothing_are_no_finding(tmp_path):
    reads = {1: {"capital": 1.0}, 2: {"colour": 1.0}, 3: {"river": 1.0}}
    decoys = lookup_subject(reads, {neuron: {} for neuron in reads}, directly=4)
    found = run(lookup_ground(decoys, tmp_path), OPTIONS)
    units = found.tables["neuron_units"]
    assert units.query("rank == 0")["unit"].tolist() == ["[1, 1]", "[1, 2]", "[1, 3]"]
    # Three relations have 16 evaluation places each: too few to say that nothing changes a pair.
    assert set(outcomes(found).values()) <= {"fails", "undecided", "not testable"}
    assert outcomes(found)["own"] == "fails"


def test_too_few_random_sets_decide_nothing(ground):
    found = run(ground, replace(OPTIONS, draws=20))
    assert set(outcomes(found).values()) == {"not testable"}
    assert found.statements[0].reason.startswith("there are 20 random sets")


def test_kinds_that_are_not_there_are_told(ground):
    found = run(ground, replace(OPTIONS, kinds=("neuron", "expert")))
    assert found.notes[0] == "The subject has no experts."
    assert len(found.statements) == 5
    nothing = run(ground, replace(OPTIONS, kinds=("expert",)))
    assert nothing.statements == [] and nothing.notes == ["The subject has no experts."]


def test_tasks_without_relations_are_refused(ground):
    with pytest.raises(EvidenceError, match="'task' of experiment 'relations' must be"):
        run(ground, replace(OPTIONS, task="capitals"))
    table = ground.stimuli["relations"]
    two = {"relations": table[table["condition"] != "river"]}
    with pytest.raises(EvidenceError, match=r"at least 3 conditions to compare. Got 2"):
        run(replace(ground, stimuli=two), OPTIONS)
