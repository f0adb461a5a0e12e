"""Chunks are of a useful size, and a layer can be read alone."""

from itertools import pairwise

import pytest

from lmri.store.layout import BLOCK_BYTES, CHUNK_BYTES, LARGEST_CHUNK_BYTES, MIB, Layout, plan

TOKEN_SLOTS = ("token", "layer", "slot")
POOLED = ("trial", "phase", "statistic", "layer", "place", "dim")


@pytest.mark.parametrize(
    ("dims", "trailing", "itemsize", "expected"),
    [
        # expert ids of a small model: one chunk of 2 MiB
        (TOKEN_SLOTS, (4, 4), 1, Layout(2**17, (4, 4), (4, 4))),
        (("token",), (), 4, Layout(2**19, (), ())),
        # neurons of OLMoE-1B-7B in float16: 256 KiB a token, 2 MiB a chunk, 32 MiB a block
        (
            (*TOKEN_SLOTS, "neuron"),
            (16, 8, 1024),
            2,
            Layout(128, (16, 8, 1024), (1, 8, 1024)),
        ),
        # pooled residual of the same model: 9.4 MiB a trial, 1.2 MiB a layer of two, cut by place
        (POOLED, (5, 5, 16, 3, 2048), 4, Layout(2, (5, 5, 16, 3, 2048), (5, 5, 1, 1, 2048))),
        # its residual in full: as many rows as without a place, so the block is no larger
        (
            ("token", "layer", "place", "dim"),
            (16, 3, 2048),
            2,
            Layout(128, (16, 3, 2048), (1, 1, 2048)),
        ),
    ],
)
def test_known_layouts(dims, trailing, itemsize, expected):
    assert plan(dims, trailing, itemsize) == expected


@pytest.mark.parametrize(
    ("dims", "trailing"),
    [
        ((*TOKEN_SLOTS, "neuron"), (94, 8, 1536)),  # Qwen3-235B
        (("token", "layer", "neuron"), (61, 18432)),  # a dense model of that size
        (("token", "layer", "expert"), (58, 256)),
        (POOLED, (40, 5, 94, 3, 8192)),  # forty phases
    ],
)
def test_large_models_have_bounded_blocks_and_useful_chunks(dims, trailing):
    layout = plan(dims, trailing, 4)
    chunk, row = 4, 4
    for size in layout.chunks:
        chunk *= size
    for size in trailing:
        row *= size
    assert layout.chunk[dims.index("layer") - 1] == 1
    assert MIB / 2 <= chunk <= LARGEST_CHUNK_BYTES
    assert layout.rows * row <= BLOCK_BYTES or layout.rows == 1
    assert layout.shards == (layout.rows, *trailing)


def test_a_row_larger_than_any_chunk_is_cut_along_its_leading_dimensions():
    layout = plan(("trial", "phase", "statistic", "dim"), (64, 5, 65536), 4)
    assert layout.chunk == (4, 5, 65536)  # 5 MiB; 8 phases would be 10
    assert layout.rows == 1
    assert layout.grid == (16, 1, 1)
    assert plan(("trial", "phase", "dim"), (7, 2**22), 4).chunk == (1, 2**22)  # 16 MiB, no less


def test_chunks_of_arrays_that_are_read_together_nest():
    rows = [plan(("token", "x"), (size,), 4).rows for size in (1, 3, 7, 100, 1000)]
    assert all(a % b == 0 for a, b in pairwise(rows))


def test_a_dimension_without_extent_has_a_chunk():
    layout = plan(TOKEN_SLOTS, (4, 0), 4)
    assert layout.chunks == (CHUNK_BYTES, 4, 1)
    assert layout.grid == (1, 1)
