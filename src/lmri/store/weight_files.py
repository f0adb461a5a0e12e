"""How large the weights of a prepared subject are, told without opening them.

The workflow asks for memory by this before each job, so nothing heavy is imported.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

POINTER = "pointer.json"
"""File that stands for an external subject: its path, and the SHA-256 of its files."""

COPIES = {"float32": 3.5}
"""Bytes of memory that loading takes for each byte of the files, where their type is changed.

Measured where it is most: experts stored one by one in bfloat16 and merged in float32
(``docs/subjects.md``, "Memory").
"""

AS_STORED = 1.5
"""The same where the type of the files is kept."""


def weight_bytes(prepared: Path) -> int:
    """Add up the files of the weights of a subject.

    Parameters
    ----------
    prepared : Path
        Its prepared folder, with the weights or a pointer to them.

    Returns
    -------
    int
        Bytes; 0 where nothing is there yet, or nothing that can be read: the job itself says so.
    """
    folder = Path(prepared)
    with suppress(OSError, ValueError, KeyError, TypeError):  # no pointer: the weights are here
        folder = Path(json.loads((folder / POINTER).read_text(encoding="utf-8"))["path"])
    return sum(file.stat().st_size for file in folder.glob("*.safetensors") if file.is_file())


def loading_mb(prepared: Path, dtype: str) -> int:
    """Bound the memory that the weights of a subject take while it is loaded.

    Parameters
    ----------
    prepared : Path
        Its prepared folder.
    dtype : str
        Data type in memory, as the study gives it.

    Returns
    -------
    int
        Megabytes (10^6 bytes).
    """
    return round(weight_bytes(prepared) * COPIES.get(dtype, AS_STORED) / 1e6)
