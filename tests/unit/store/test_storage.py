"""What is stored is the nearest value that the type has."""

import numpy as np
import pytest
import torch

from lmri.errors import StoreError
from lmri.store.storage import decode_bfloat16, encode, is_bfloat16, stored_dtype


@pytest.fixture
def values():
    """Every sign, exponent and the bits around ties of float32."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32)
    bits[:50_000] = (bits[:50_000] & 0xFFFF0000) | 0x8000  # ties
    values = bits.view(np.float32)
    return values[np.abs(values) < 3.3e38]


def test_bfloat16_rounds_to_the_nearest_and_ties_to_even(values):
    bits = values.view(np.uint32).astype(np.uint64)
    expected = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    stored = encode(values, "bfloat16", "x")
    np.testing.assert_array_equal(stored, expected)
    upper = (expected.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(decode_bfloat16(stored), upper)


def test_float16_rounds_as_numpy_does(values):
    values = values[np.abs(values) < 65504]
    np.testing.assert_array_equal(encode(values, "float16", "x"), values.astype(np.float16))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_any_memory_is_read(dtype):
    constant = np.broadcast_to(np.float32(1.5), (4, 5))  # read-only, without strides
    assert (encode(constant, dtype, "x") == encode(np.full((4, 5), 1.5), dtype, "x")).all()
    strided = np.arange(24, dtype=np.float32).reshape(2, 3, 4)[:, ::2, 1]
    assert encode(strided, dtype, "x").shape == (2, 2)
    assert encode(strided[:0], dtype, "x").shape == (0, 2)


def test_bits_of_bfloat16_are_stored_as_they_are():
    bits = torch.tensor([1.5, -2.0]).to(torch.bfloat16).view(torch.uint16).numpy()
    assert encode(bits, "bfloat16", "x") is bits
    assert decode_bfloat16(bits).tolist() == [1.5, -2.0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_what_is_not_finite_is_kept(dtype):
    values = np.array([np.nan, np.inf, -np.inf, 1.0, 0.0], np.float32)
    values.view(np.uint32)[4] = 0x7FFFFFFF  # a NaN that rounding alone would turn into zero
    stored = encode(values, dtype, "x")
    read = decode_bfloat16(stored) if dtype == "bfloat16" else stored
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize(
    ("dtype", "large"), [("float16", 65520.0), ("bfloat16", 3.4e38), ("float32", 3.41e38)]
)
def test_the_first_value_that_is_too_large_is_refused(dtype, large):
    with pytest.raises(StoreError, match=f"x: 1 of 3 values exceed {dtype}"):
        encode(np.array([0.0, large, np.inf]), dtype, "x")
    encode(np.array([0.0, large * 0.99]), dtype, "x")


def test_without_a_type_values_are_kept():
    values = np.arange(3, dtype=np.uint8)
    assert encode(values, None, "x") is values
    assert stored_dtype(values, None) == np.uint8
    assert stored_dtype(values, "bfloat16") == np.uint16
    with pytest.raises(StoreError, match="'dtype'"):
        stored_dtype(values, "int4")
    assert is_bfloat16({"dtype": "bfloat16"}) and not is_bfloat16({})
