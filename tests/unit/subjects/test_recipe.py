"""The recipe: strict about its keys and values."""

import pytest

from lmri.errors import LmriError
from lmri.subjects import Recipe


def test_round_trip():
    recipe = Recipe(base_steps=7, base_checkpoints=(0, 3))
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_unknown_key_names_itself_and_the_allowed_ones():
    with pytest.raises(LmriError, match="'learning_rat'") as caught:
        Recipe.from_dict({"learning_rat": 1e-3})
    assert "'base_learning_rate'" in str(caught.value)


def test_unknown_document_class_is_an_error():
    with pytest.raises(LmriError, match="'poem'") as caught:
        Recipe(state_mix={"poem": 1.0})
    assert "'event_sens'" in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"document_mask_share": 1.5},
        {"base_steps": 0},
        {"base_mix": {"event": 0.0}},
        {"experts": -1},
    ],
)
def test_values_outside_their_range_are_errors(values):
    with pytest.raises(LmriError, match=next(iter(values))):
        Recipe.from_dict(values)
