"""The stage ``subject``: one folder per subject, whatever it comes from."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from lmri.anatomy import MODEL_FILES, POINTER, check_weights, model_files
from lmri.config import SubjectOptions, WorldOptions
from lmri.errors import SubjectError
from lmri.store import (
    atomic_directory,
    sha256_file,
    write_manifest,
    write_text_atomic,
)
from lmri.subjects.packaged import install_embedded
from lmri.subjects.recipe import Recipe
from lmri.subjects.states import train_base, train_state


def prepare_subject(
    *,
    out: Path,
    manifest: Path,
    options: SubjectOptions,
    base: Path | None,
    world: WorldOptions,
    training: dict,
    provenance: dict,
) -> dict:
    """Unpack, train, or point to a subject.

    Parameters
    ----------
    out : Path
        Folder to write: Hugging Face layout, or ``pointer.json`` for an external model.
    manifest : Path
        Its manifest, written after it.
    options : SubjectOptions
        Where the subject comes from.
    base : Path or None
        Base of a trained subject; without one it is trained first, beside ``out``.
    world : WorldOptions
        The world of a trained subject.
    training : dict
        What differs from the default recipe.
    provenance : dict
        Kept in the manifest.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    SubjectError
        If the subject cannot be had, is damaged, or has pickled weights.
    """
    if options.source == "embedded":
        install_embedded(options.state, out)
    elif options.source == "trained":
        _train(out, options, base, world, Recipe.from_dict(training))
    elif options.source == "directory":
        _point(out, Path(options.path).resolve(), options)
    else:
        _point(out, _fetch(options), options)
    return write_manifest(out, manifest, provenance=provenance, source=options.to_dict())


def _train(
    out: Path, options: SubjectOptions, base: Path | None, world: WorldOptions, recipe: Recipe
) -> None:
    if base is None:
        base = out.with_name(f".{out.name}.base")
        train_base(
            base,
            base_seed=options.base_seed,
            world_seed=world.seed,
            world_size=world.size,
            recipe=recipe,
        )
    train_state(base, out, state=options.state, seed=options.seed, recipe=recipe)


def _point(out: Path, folder: Path, options: SubjectOptions) -> None:
    check_weights(folder)
    pointer = {
        **options.to_dict(),
        "path": str(folder),  # absolute, where the options may say a relative one
        "files": {file.name: sha256_file(file) for file in model_files(folder)},
    }
    with atomic_directory(out) as partial:
        write_text_atomic(partial / POINTER, json.dumps(pointer, indent=1) + "\n")


def _fetch(options: SubjectOptions) -> Path:
    try:
        return Path(
            snapshot_download(
                options.id, revision=options.revision, allow_patterns=list(MODEL_FILES)
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SubjectError(
            f"The 'id' of subject '{options.name}' must be a model that can be fetched or is in "
            f"the local cache. Got '{options.id}', revision '{options.revision}' ({first})."
        ) from None
