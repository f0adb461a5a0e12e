"""Parts of a variable lie in one tensor, which the next batch uses again."""

import pytest
import torch
from families import tiny_model

from lmri.anatomy import describe, variables
from lmri.record.layers import LayerParts


@pytest.fixture
def residual():
    """The residual of two layers at three places."""
    found = variables(describe(tiny_model("llama")))
    return next(v for v in found if v.path == "residual/residual")


def fill(parts, rows, value):
    for layer in (1, 0):
        for place in range(3):
            own = parts.part((layer, place), torch.Size((rows,)), torch.float32)
            own[:] = value + 10 * layer + place


def test_parts_stand_where_the_table_says(residual):
    parts = LayerParts(residual)
    fill(parts, 4, 100)
    assert parts.together().shape == (4, *residual.shape)
    assert parts.together()[3, :, :, 0].tolist() == [[100, 101, 102], [110, 111, 112]]
    assert torch.equal(parts[1, 2], parts.together()[:, 1, 2])


@pytest.mark.parametrize("rows", [(4,), (2, 3, 5)])  # of tokens, of pools
@pytest.mark.parametrize("path", ["residual/residual", "neuron/activation"])
def test_every_part_is_contiguous_and_seen_from_the_whole(rows, path):
    variable = next(v for v in variables(describe(tiny_model("llama"))) if v.path == path)
    parts, rows = LayerParts(variable), torch.Size(rows)
    places = [(place,) for place in range(3)] if "place" in variable.dims else [()]
    for number, own in enumerate((layer, *place) for layer in (0, 1) for place in places):
        parts.part(own, rows, torch.float16)[:] = number
    whole = parts.together()
    assert whole.shape == (*rows, *variable.shape)
    for own, part in parts.items():
        assert part.is_contiguous()
        seen = whole[(slice(None),) * len(rows) + own]
        assert seen.data_ptr() == part.data_ptr()
        assert seen.equal(part)


@pytest.mark.parametrize("rows", [2, 4, 9])  # less, as much and more than before
def test_the_next_batch_takes_no_more_memory_than_it_needs(residual, rows):
    parts = LayerParts(residual)
    fill(parts, 4, 0)
    before = parts.together().data_ptr()
    parts.clear()
    fill(parts, rows, 100)
    assert (parts.together().data_ptr() == before) == (rows <= 4)
    assert parts.together()[-1, :, 0, 0].tolist() == [100, 110]


def test_a_part_that_was_not_captured_is_no_earlier_one(residual):
    parts = LayerParts(residual)
    fill(parts, 4, 0)
    parts.clear()
    parts.part((0, 0), torch.Size((4,)), torch.float32)[:] = 1
    with pytest.raises(KeyError, match="5 of 6 parts"):
        parts.together()
