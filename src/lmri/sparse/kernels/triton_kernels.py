"""Inner loops of sparse products for a GPU, in Triton; imported only where Triton is there.

A tile of weights is loaded with a mask, by channel or by output: what is masked is not read from
memory. Weights that are not read count as 0, and so do the values that meet them, so that nothing
of a skipped channel reaches a sum. Every sum has one program for each part, which adds in a fixed
order, and parts are added up in theirs: no atomics, the same bits each time.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def active_places(
    deciding, threshold, index, place, count, size, LISTED: tl.constexpr, EACH: tl.constexpr
):
    """Tell what the places of a row or of a list name, and whether it is active.

    Listed: what the index says, unless it is out of range. Else the place itself, if the deciding
    value is not at most the threshold: a value that is not a number is active. ``EACH`` says that
    every place has a threshold of its own.
    """
    inside = place < count
    if LISTED:
        named = tl.load(index + place, mask=inside, other=-1)
        active = (named >= 0) & (named < size)
    else:
        named = place.to(tl.int64)
        value = tl.load(deciding + named, mask=inside, other=0.0).to(tl.float32)
        limit = tl.load(threshold + (named if EACH else named * 0), mask=inside, other=0.0)
        idle = tl.abs(value) <= limit
        active = inside & (idle == 0)
    return named, active


@triton.jit
def add_channels(
    values,  # (n_rows, n_in)
    deciding,  # (n_rows, n_in)
    threshold,  # () or (n_in,)
    index,  # (count,)
    weight_t,  # (n_in, n_out)
    sums,  # (n_parts, n_rows, n_out), float32
    count,
    n_in,
    n_out,
    part_size,
    LISTED: tl.constexpr,
    EACH: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    """Add up the weights of active channels, of one part of them and for one block of outputs.

    Rows are the first axis of the grid: those that share a channel ask for its weights at about
    the same time, and all but the first find them in the cache.
    """
    row = tl.program_id(0)
    out = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    first = tl.program_id(2) * part_size  # a multiple of BLOCK_IN
    total = tl.zeros((BLOCK_IN, BLOCK_OUT), tl.float32)
    for start in range(first, min(first + part_size, count), BLOCK_IN):
        place = start + tl.arange(0, BLOCK_IN)
        channel, active = active_places(
            deciding + row * n_in, threshold, index, place, count, n_in, LISTED, EACH
        )
        value = tl.load(values + row * n_in + channel, mask=active, other=0.0).to(tl.float32)
        weight = tl.load(
            weight_t + channel[:, None] * n_out + out[None, :],
            mask=active[:, None] & (out < n_out)[None, :],
            other=0.0,
        )
        total += value[:, None] * weight.to(tl.float32)
    to = sums + (tl.program_id(2) * tl.num_programs(0) + row) * n_out + out
    tl.store(to, tl.sum(total, 0), mask=out < n_out)


@triton.jit
def add_parts(
    sums,  # (n_parts, n_rows, n_out), float32
    bias,  # (n_out,)
    y,  # (n_rows, n_out)
    n_parts,
    n_out,
    BIASED: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    """Add up the parts of every sum, and the bias."""
    row = tl.program_id(0)
    out = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    total = tl.zeros((BLOCK_OUT,), tl.float32)
    for part in range(n_parts):
        of_part = sums + (part * tl.num_programs(0) + row) * n_out
        total += tl.load(of_part + out, mask=out < n_out, other=0.0)
    if BIASED:
        total += tl.load(bias + out, mask=out < n_out, other=0.0).to(tl.float32)
    tl.store(y + row * n_out + out, total, mask=out < n_out)


@triton.jit
def multiply_rows(
    x,  # (n_rows, n_in)
    weight,  # (n_out, n_in)
    deciding,  # (n_rows, n_out)
    threshold,  # () or (n_out,)
    index,  # (count,)
    bias,  # (n_out,)
    y,  # (n_rows, n_out)
    count,
    n_in,
    n_out,
    LISTED: tl.constexpr,
    EACH: tl.constexpr,
    BIASED: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    """Multiply the rows of active outputs with x; of outputs that are not listed also with ``a``.

    Nothing is written for an output that is not active.
    """
    row = tl.program_id(0)
    place = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    out, active = active_places(
        deciding + row * n_out, threshold, index, place, count, n_out, LISTED, EACH
    )
    total = tl.zeros((BLOCK_OUT, BLOCK_IN), tl.float32)
    # A block without any active output reads nothing.
    for start in range(0, n_in * tl.max(active.to(tl.int32), 0), BLOCK_IN):
        channel = start + tl.arange(0, BLOCK_IN)
        value = tl.load(x + row * n_in + channel, mask=channel < n_in, other=0.0).to(tl.float32)
        weights = tl.load(
            weight + out[:, None] * n_in + channel[None, :],
            mask=active[:, None] & (channel < n_in)[None, :],
            other=0.0,
        )
        total += weights.to(tl.float32) * value[None, :]
    result = tl.sum(total, 1)
    if BIASED:
        result += tl.load(bias + out, mask=active, other=0.0).to(tl.float32)
    if not LISTED:
        result *= tl.load(deciding + row * n_out + out, mask=active, other=0.0).to(tl.float32)
    tl.store(y + row * n_out + out, result, mask=active)
