"""Freed memory: kept for the next batch, which needs as much, and given back once in a while."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Options of ``mallopt``, from the C library's ``malloc.h``."""

KEPT_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Ask the C library to keep memory that is freed, up to a GiB, for what is allocated next.

    By default it gives large pieces back at once. Every layer of every batch needs them again, and
    the system has to find and clear their pages anew: a tenth of the time of a recording on a
    virtual machine. It holds for the whole process, until it ends; :func:`give_back_freed_memory`
    still gives back.

    Returns
    -------
    bool
        Whether there was a GNU C library that took it.
    """
    library = _gnu_library()
    if library is None:
        return False
    taken = [library.mallopt(option, KEPT_BYTES) for option in (TRIM_THRESHOLD, MMAP_THRESHOLD)]
    return taken == [1, 1]


def give_back_freed_memory() -> bool:
    """Ask the C library to give the memory it holds but does not use back to the system.

    Arrays are freed in other threads and in another order than they were made, which leaves holes
    that the C library keeps: without this, memory grew by a tenth from 500 trials to 2000.

    Returns
    -------
    bool
        Whether there was a GNU C library that gave anything back.
    """
    library = _gnu_library()
    return library is not None and bool(library.malloc_trim(0))


def _gnu_library() -> ctypes.CDLL | None:
    """Return the C library if it is the GNU one."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
