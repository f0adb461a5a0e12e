"""The two trained states that come with the package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from lmri.checks import check_choice
from lmri.errors import SubjectError
from lmri.store.atomic import atomic_directory
from lmri.subjects.card import CARD, WEIGHTS, file_hash
from lmri.subjects.states import STATES

__all__ = ["embedded_states", "install_embedded"]

PACKAGED = Path(__file__).parent / "embedded"


def embedded_states() -> tuple[str, ...]:
    """Names of the packaged states: refusal tuned into the MoE blocks, or into everything."""
    return STATES


def install_embedded(state: str, out: Path) -> None:
    """Copy a packaged state into a folder, after checking every file against its hash.

    Parameters
    ----------
    state : {"localised", "distributed"}
        Which one.
    out : Path
        Folder to write: Hugging Face layout (safetensors, bfloat16), tokenizer, ``card.json``,
        ``MODEL_CARD.md``. Replaced when it exists.

    Raises
    ------
    SubjectError
        If the state is unknown, or a packaged file is missing or is not the one that was
        trained.
    """
    check_choice(state, embedded_states(), "state", "install_embedded", SubjectError)
    source = PACKAGED / state
    expected = _expected_hashes(source)
    for name, digest in expected.items():
        _check_file(source / name, digest)
    with atomic_directory(Path(out)) as partial:
        for path in source.iterdir():
            shutil.copyfile(path, partial / path.name)


def _expected_hashes(source: Path) -> dict[str, str]:
    try:
        card = json.loads((source / CARD).read_text(encoding="utf-8"))
        return {WEIGHTS: card["sha256"], **card["files"]}
    except (OSError, ValueError, KeyError) as error:
        raise SubjectError(
            f"The {CARD} of the packaged state {source.name!r} must be readable and name the "
            f"hash of every file. Got {type(error).__name__}: {error}. Reinstall the package."
        ) from error


def _check_file(path: Path, expected: str) -> None:
    got = file_hash(path) if path.is_file() else "no file"
    if got != expected:
        raise SubjectError(
            f"The file {path.name!r} of the packaged state {path.parent.name!r} must have the "
            f"SHA-256 {expected}. Got {got}. The installation is damaged: reinstall the package."
        )
