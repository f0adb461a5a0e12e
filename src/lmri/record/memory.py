"""Memory that is freed stays with the process, so that it is used again."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of the parameters of ``mallopt``, from ``malloc.h`` of the GNU C library."""

GIB = 2**30


def keep_freed_memory() -> bool:
    """Ask the C library not to give freed memory back to the system until the process ends.

    A pass frees and asks for the same tensors again and again. New pages must be mapped and
    cleared by the system, which took a twentieth of the time of a recording. The most that is ever
    held does not change.

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
    return bool(mallopt(MMAP_THRESHOLD, GIB)) and bool(mallopt(TRIM_THRESHOLD, 2 * GIB - 1))
