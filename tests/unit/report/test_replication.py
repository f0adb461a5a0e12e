"""Sentences about replication say what the numbers say."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from report_files import heads_table

from lmri.config import ContrastOptions
from lmri.report.files import Files
from lmri.report.group import OVERLAP, Group, read_counts, read_unit
from lmri.report.heads_leaf import describe_jump, largest_jump
from lmri.report.overlap import overlap_blocks
from lmri.report.replication import (
    describe_replication,
    few_layers,
    replication_prose,
    replication_table,
    standing,
)
from lmri.report.words import NOTHING

NAN = float("nan")


def row(mapped: int, together: int, subjects: int = 5, name: str = "expert.resonance") -> dict:
    return {
        "name": name,
        "phase": "prompt_last",
        "subjects": subjects,
        "mapped": mapped,
        "modal_layer": 2.0 if mapped else NAN,
        "in_modal_layer": together,
        "correlation_low": 0.62 if mapped > 1 else NAN,
        "correlation_mean": 0.81 if mapped > 1 else NAN,
        "correlation_high": 0.95 if mapped > 1 else NAN,
        "second_level": "",
    }


@pytest.mark.parametrize(
    ("mapped", "together", "subjects", "expected"),
    [
        (5, 5, 5, "replicates"),
        (4, 4, 5, "replicates"),
        (5, 3, 5, "replicates in part"),
        (3, 3, 5, "replicates in part"),
        (2, 2, 5, "does not replicate"),
        (2, 1, 2, "does not replicate"),
        (1, 1, 2, "does not replicate"),
        (4, 2, 4, "does not replicate"),
        (5, 2, 5, "does not replicate"),
        (0, 0, 5, "empty"),
        (1, 1, 1, "not compared"),
    ],
)
def test_the_rule(mapped, together, subjects, expected):
    assert standing(row(mapped, together, subjects)) == expected


def test_a_sentence_has_every_number():
    assert describe_replication(row(4, 4)) == (
        "The map of experts (rate difference) is empty in 1 of 5 subjects; the strongest expert "
        "lies in layer 2 in 4 of 5. Between subjects, the mean strengths of the layers correlate "
        "at 0.81 on average (0.62 to 0.95)."
    )
    assert describe_replication(row(5, 3)).startswith(
        "The map of experts (rate difference) selects experts in all 5 subjects; the strongest"
    )
    assert describe_replication(row(0, 0)) == (
        "The map of experts (rate difference) is empty in all 5 subjects."
    )
    assert "layer 2 is the strongest in 4 of 5" in describe_replication(
        row(5, 4, name="layer.welch_t")
    )


def test_layers_that_no_two_subjects_share_are_not_told():
    assert "; the strongest expert lies in another layer in each" in describe_replication(row(3, 1))
    (cells,) = replication_table(pd.DataFrame([row(3, 1)]), "").rows
    assert [cell.text for cell in cells[3:6]] == ["3 of 5", NOTHING, "1 of 5"]
    (cells,) = replication_table(pd.DataFrame([row(1, 1)]), "").rows
    assert [cell.text for cell in cells[3:6]] == ["1 of 5", "2", "1 of 5"]


def test_what_replicates_comes_first():
    rows = pd.DataFrame([row(0, 0), row(2, 2), row(5, 5)])
    leads = [lead for lead, _ in replication_prose(rows, "hypothesis").lines]
    assert leads == ["Replicates:", "Does not replicate:", "Empty in all subjects:"]
    control = [lead for lead, _ in replication_prose(rows, "negative_control").lines]
    assert control[-1] == "Empty in all subjects, as it should be:"
    assert control[0] == "Not empty, and should be:"


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (3, "there are 3 layers, and over three numbers, unrelated profiles correlate at .71"),
        (2, "there are 2 layers, and over two numbers, every correlation is 1 or −1"),
        (1, "there is 1 layer, and one number has no correlation"),
        (4, ""),
        (0, ""),
    ],
)
def test_few_layers_are_not_correlated_and_it_is_said_why(layers, told):
    assert told in few_layers(layers)
    assert bool(few_layers(layers)) == bool(told)
    lines = replication_prose(pd.DataFrame([row(5, 5)]), "hypothesis", layers).lines
    assert len(lines) == (2 if told else 1)
    alone = replication_prose(pd.DataFrame([row(1, 1, 1)]), "hypothesis", layers)
    assert len(alone.lines) == 1


def test_three_unrelated_numbers_correlate_as_often_as_is_said():
    pairs = np.random.default_rng(0).standard_normal((20_000, 2, 3))
    centred = pairs - pairs.mean(axis=-1, keepdims=True)
    first, second = centred[:, 0], centred[:, 1]
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    correlations = (first * second).sum(axis=1) / norms
    assert np.mean(correlations >= np.sqrt(0.5)) == pytest.approx(0.25, abs=0.01)


def overlaps(*rows: dict) -> Group:
    return Group(overlap=pd.DataFrame(rows, columns=list(OVERLAP)))


def entry(first: str, second: str, p: float = 0.1) -> dict:
    sides = [json.dumps(["s", name, "prompt_last", "expert.resonance"]) for name in (first, second)]
    return {
        "first": sides[0],
        "second": sides[1],
        "kind": "expert",
        "shared": 1,
        "first_size": 3,
        "second_size": 7,
        "universe": 96,
        "jaccard": 0.1,
        "overlap": 0.33,
        "p": p,
        "chance": 0.02,
    }


def test_overlaps_are_read_from_the_side_of_the_contrast():
    group = overlaps(entry("a", "b", 0.5), entry("c", "a", 0.01), entry("b", "c"), entry("a", "a"))
    found = group.overlaps_of("a")
    assert [own[1] for own in found["own"]] == ["a", "a"]
    assert [other[1] for other in found["other"]] == ["c", "b"]
    assert found[["own_size", "other_size"]].to_numpy().tolist() == [[7, 3], [3, 7]]


def test_subjects_are_compared_within_one_contrast():
    group = overlaps(entry("a", "b"), entry("a", "a"), entry("b", "b"))
    assert len(group.overlaps_between_subjects("a")) == 1
    assert group.overlaps_between_subjects("c").empty


def test_what_chance_allows_is_that_of_sets_of_these_sizes():
    group = overlaps(entry("a", "b", 0.5), entry("c", "a", 0.01))
    _, prose, _ = overlap_blocks(group, ContrastOptions("a", "t"), 0.05, "a", Files())
    text = prose.lines[0][1]
    assert "Of 2 comparisons with maps of other contrasts, 1 share more units" in text
    assert "of random sets of these sizes 0.04 would" in text


def test_unreadable_sides_are_left_out():
    assert overlaps({**entry("a", "b"), "first": "["}).overlaps_of("a").empty


@pytest.mark.parametrize("text", [None, NAN, "", "[1]", "{", '{"a": 1}'])
def test_counts_that_are_none(text):
    assert read_counts(text) == {}


def test_counts_and_units():
    assert read_counts('{"2": 3}') == {2: 3}
    assert read_unit("[2, 16]") == [2, 16]
    assert read_unit("") == read_unit(None) == []


def test_the_largest_jump_is_found():
    table = heads_table(["a"])
    rows = table[table["series"] == "base"]
    names = rows["layer"].astype(str) + ":" + rows["head"].astype(str)
    jump = largest_jump(rows.assign(name=names), "induction")
    assert (jump.head, jump.before, jump.after, jump.high) == ("1:2", 100, 200, 0.7)
    assert "rises most in head 1:2" in describe_jump(jump, "induction")
    assert "between steps 100 and 200" in describe_jump(jump, "induction")


def test_one_checkpoint_has_no_jump():
    rows = heads_table([], steps=(0,)).assign(name="0:0")
    assert largest_jump(rows, "induction") is None
    unknown = heads_table([], steps=(0, 1)).assign(name="0:0", induction=NAN)
    assert largest_jump(unknown, "induction") is None
