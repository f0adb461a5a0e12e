"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of the parameters of ``mallopt``, from ``malloc.h`` of the GNU C library."""

KEPT_BELOW = 4 * 2**20
LARGEST_TRIM = 2**31 - 1


def keep_freed_memory() -> bool:
    """Ask the C library to keep small tensors' memory when freed, and give that of large ones back.

    A pass frees and asks for the same tensors again and again, and new pages must be mapped and
    cleared by the system. From 4 MiB on a tensor has pages of its own: left to itself the C library
    moves this limit up to 32 MiB, and aligned tensors that are freed out of order then leave holes
    that never fit again, so that memory grew with every batch.

    Returns
    -------
    bool
        Whether there is a GNU C library that does so.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(MMAP_THRESHOLD, KEPT_BELOW)) and bool(mallopt(TRIM_THRESHOLD, LARGEST_TRIM))
