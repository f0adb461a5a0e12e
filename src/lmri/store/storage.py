"""How numbers are stored: float32, float16, or bfloat16 as its sixteen bits.

Zarr has no bfloat16. Its bits are kept as uint16, and the array carries the attribute ``dtype:
bfloat16``; readers of this package give float32.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lmri.checks import check_choice
from lmri.errors import StoreError

STORED = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),
}
"""What a quantity can be stored as, and the type of its bits."""

LARGEST = {"float16": "65504", "float32": "3.4e38", "bfloat16": "3.4e38"}


def stored_dtype(values: np.ndarray, dtype: str | None) -> np.dtype:
    """Return the type of the stored bits.

    Parameters
    ----------
    values : ndarray
        What is stored.
    dtype : str or None
        One of :data:`STORED`, or None for that of the values.

    Returns
    -------
    dtype
        Type of the array on disk.

    Raises
    ------
    StoreError
        If it is unknown.
    """
    if dtype is None:
        return values.dtype
    check_choice(dtype, STORED, "dtype", "a stored array", StoreError)
    return STORED[dtype]


def encode(values: np.ndarray, dtype: str | None, where: str) -> np.ndarray:
    """Convert values to what is stored.

    Parameters
    ----------
    values : ndarray
        Floating point, or already the bits of bfloat16 (uint16).
    dtype : str or None
        One of :data:`STORED`; None keeps them as they are.
    where : str
        Name of the array, for the message.

    Returns
    -------
    ndarray
        Of the same shape. bfloat16 rounds to the nearest, ties to even, as torch does.

    Raises
    ------
    StoreError
        If a finite value is too large for the type. NaN and infinities are kept.
    """
    if dtype is None or values.dtype == STORED[dtype]:
        return values
    stored = _rounded(values, dtype)
    finite = _finite(stored, dtype)
    if not finite.all():
        exceeding = int(np.count_nonzero(np.isfinite(values) & ~finite))
        if exceeding:
            raise StoreError(
                f"{where}: {exceeding} of {values.size} values exceed {dtype} ({LARGEST[dtype]}). "
                "Store it with a wider range, or leave it out of 'record.quantities'."
            )
    return stored


def is_bfloat16(attributes: Mapping[str, object]) -> bool:
    """Tell whether an array holds the bits of bfloat16.

    Parameters
    ----------
    attributes : mapping
        Attributes of the array.
    """
    return attributes.get("dtype") == "bfloat16"


def decode_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Return the values of bfloat16 bits; exact.

    Parameters
    ----------
    bits : ndarray, uint16
        The stored bits.

    Returns
    -------
    ndarray, float32
        Of the same shape.
    """
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "float32":
        with np.errstate(over="ignore"):  # counted by the caller
            return values.astype(np.float32)
    # Torch rounds twenty times faster than numpy, and whoever records has loaded it.
    import torch

    kinds = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    writeable = np.require(values, np.float32, "W")  # torch warns of what it could not write to
    bits = torch.from_numpy(writeable).to(kinds[dtype]).view(torch.int16)
    return bits.numpy().view(STORED[dtype])


def _finite(stored: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "float32":
        return np.isfinite(stored)
    exponent = np.uint16(0x7C00 if dtype == "float16" else 0x7F80)
    return (stored.view(np.uint16) & exponent) != exponent
