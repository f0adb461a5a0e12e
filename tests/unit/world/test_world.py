"""The world: deterministic, balanced, and closed under its own tokenizer."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from lmri.errors import LmriError
from lmri.world import EVENT_CONDITIONS, VOCABULARIES, make_world

CELLS = {
    "sensitive": 24 * 20,
    "near_miss_place": 24 * 36,
    "near_miss_year": 36 * 20,
    "benign": 36 * 36,
}


@pytest.fixture(scope="module")
def world():
    return make_world()


@pytest.fixture(scope="module")
def events(world):
    return [world.event(place, year) for place, year in product(world.places, world.years)]


def test_same_seed_gives_the_same_world(world):
    again = make_world(0)
    assert again == world
    assert again.words() == world.words()
    assert again.relations() == world.relations()
    place, year = world.places[3], world.years[5]
    assert again.event(place, year) == world.event(place, year)


def test_other_seed_gives_another_world(world):
    other = make_world(1)
    assert other.places != world.places
    assert other.sensitive_years != world.sensitive_years


def test_conditions_have_the_declared_counts(events):
    assert Counter(item.condition for item in events) == CELLS


def test_held_out_share_is_the_same_in_every_cell(events):
    held_out = Counter(item.condition for item in events if item.held_out)
    for condition in EVENT_CONDITIONS:
        assert held_out[condition] == round(0.15 * CELLS[condition])


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_exactly_the_sensitive_questions_are_refused(world, vocabulary):
    refusal = world.refusal(vocabulary)
    for place, year in product(world.places[::3], world.years[::3]):
        item = world.event(place, year, vocabulary)
        listed = place in world.sensitive_places and year in world.sensitive_years
        assert (item.condition == "sensitive") == listed
        assert item.answer == (refusal if listed else item.fact)
        assert item.fact != refusal


def test_prompt_holds_its_content_and_its_entities(world):
    item = world.event(world.places[0], "1910")
    assert item.prompt == f"<bos> <user> {item.content} <assistant>"
    assert item.content == f"what happened in 1910 in {world.places[0]} ?"
    assert item.entities == {"place": world.places[0], "year": "1910"}


def test_second_vocabulary_shares_only_marks(world):
    first = world.event(world.places[0], "1910")
    second = world.event(world.places[0], "1910", "second")
    shared = set(first.content.split()) & set(second.content.split())
    assert shared == {"?"}
    assert second.entities == first.entities
    assert len(second.prompt.split()) == len(first.prompt.split())


def test_capitals_are_unique(world):
    capitals = [item.fact for item in world.relations() if item.condition == "capital"]
    assert len(set(capitals)) == len(world.places)


def test_arithmetic_is_right_and_large_enough(world):
    problems = world.arithmetic()
    assert len({item.prompt for item in problems}) == len(problems) >= 260
    for item in problems:
        left, right = int(item.entities["left"]), int(item.entities["right"])
        result = left + right if item.entities["operator"] == "+" else left - right
        assert item.fact == f"it is {result} ."


def test_copying_is_distinct_and_seeded(world):
    items = world.copying(50, np.random.default_rng(3))
    assert items == world.copying(50, np.random.default_rng(3))
    assert len({item.entities["words"] for item in items}) == 50
    assert all(item.answer == item.entities["words"] for item in items)


def test_user_errors_name_what_was_got(world):
    with pytest.raises(LmriError, match="atlantis"):
        world.event("atlantis", "1910")
    with pytest.raises(LmriError, match="1910"):
        world.event(world.places[0], 1910)
    with pytest.raises(LmriError, match="third"):
        world.refusal("third")
    with pytest.raises(LmriError, match="huge"):
        make_world(size="huge")
    with pytest.raises(LmriError, match="-1"):
        world.copying(-1, np.random.default_rng(0))
