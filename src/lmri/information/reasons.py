"""Why something is not there, as it is kept beside what is."""

from __future__ import annotations


def reason_of(error: Exception) -> str:
    """Say what an error is about, without the store on the machine that recorded it."""
    text = str(error)
    head, mark, rest = text.partition(".zarr: ")
    return rest if mark and " " not in head else text
