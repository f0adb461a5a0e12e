"""The stage ``subject``: one folder per subject, whatever it comes from."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lmri.anatomy import MODEL_FILES, POINTER, check_weights, model_files, pickled_files
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
from lmri.subjects.stage import checkpoint_folder
from lmri.subjects.states import train_base, train_state

NOT_FETCHED = ["*/*", "consolidated*"]
"""Other layouts of the same weights, which a model is not loaded from: not worth their size."""


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
    """Unpack, train, fetch, or point to a subject.

    Parameters
    ----------
    out : Path
        Folder to write: Hugging Face layout, or ``pointer.json`` for an external model.
    manifest : Path
        Its manifest, written after it.
    options : SubjectOptions
        Where the subject comes from.
    base : Path or None
        Base of a trained subject, or the one it is a checkpoint of; without one it is trained
        first, beside ``out``.
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
        recipe = Recipe.from_dict(training)
        base = base or _train_base(out, options, world, recipe)
        train_state(base, out, state=options.state, seed=options.seed, recipe=recipe)
    elif options.source == "base":
        recipe = Recipe.from_dict(training)
        base = base or _train_base(out, options, world, recipe)
        _copy_checkpoint(base, out, options, recipe)
    elif options.source == "directory":
        _point(out, Path(options.path).resolve(), options.to_dict())
    else:
        folder = _fetch(options)
        # The cache keeps every commit in a folder of its name: a branch moves, a commit does not.
        _point(out, folder, {**options.to_dict(), "commit": folder.name})
    return write_manifest(out, manifest, provenance=provenance, source=options.to_dict())


def _train_base(out: Path, options: SubjectOptions, world: WorldOptions, recipe: Recipe) -> Path:
    base = out.with_name(f".{out.name}.base")
    train_base(
        base,
        base_seed=options.base_seed,
        world_seed=world.seed,
        world_size=world.size,
        recipe=recipe,
    )
    return base


def _copy_checkpoint(base: Path, out: Path, options: SubjectOptions, recipe: Recipe) -> None:
    finished = options.step in (None, recipe.base_steps)
    folder = base if finished else checkpoint_folder(base, options.step)
    if not folder.is_dir():
        kept = [int(path.name.removeprefix("step_")) for path in base.glob("checkpoints/step_*")]
        steps = ", ".join(map(str, [*sorted(kept), recipe.base_steps]))
        raise SubjectError(
            f"The 'step' of subject '{options.name}' must be one that base {options.base_seed} "
            f"kept, one of {steps}. Got {options.step}: add it to 'training.base_checkpoints'."
        )
    with atomic_directory(out) as partial:
        for path in folder.iterdir():
            if path.is_file():  # a finished base has its checkpoints in a folder beside
                shutil.copyfile(path, partial / path.name)


def _point(out: Path, folder: Path, description: dict) -> None:
    check_weights(folder)
    pointer = {
        **description,
        "path": str(folder),  # absolute, where the options may say a relative one
        "files": {file.name: sha256_file(file) for file in model_files(folder)},
    }
    with atomic_directory(out) as partial:
        write_text_atomic(partial / POINTER, json.dumps(pointer, indent=1) + "\n")


def _fetch(options: SubjectOptions) -> Path:
    revision = options.revision or constants.DEFAULT_REVISION
    got = f"Got '{options.id}', revision '{revision}'"
    try:
        folder = Path(
            snapshot_download(
                options.id,
                revision=revision,
                allow_patterns=list(MODEL_FILES),
                ignore_patterns=NOT_FETCHED,
            )
        )
    except Exception as error:  # noqa: BLE001 - errors of the network are of the library beneath
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise SubjectError(
            f"The 'id' of subject '{options.name}' must be a model that can be fetched or is in "
            f"the local cache. {got} ({first}): {_advice(error)}."
        ) from None
    if not any(folder.glob("*.safetensors")):
        pickled = pickled_files(folder)
        found = f"pickled weights ({pickled[0]})" if pickled else "no weights"
        raise SubjectError(
            f"The 'id' of subject '{options.name}' must be a model with weights in safetensors. "
            f"{got} with {found}: pickled files can run code and are never fetched or loaded. Use "
            "a revision with safetensors, or convert the model with save_pretrained in a safe "
            "place and use source: directory."
        )
    return folder


def _advice(error: Exception) -> str:
    match error:
        case HFValidationError():
            return "an id is owner/name"
        case GatedRepoError():
            return "accept its licence on its page and log in with `hf auth login`"
        case RepositoryNotFoundError():
            return "check the spelling, and for a private model log in with `hf auth login`"
        case RevisionNotFoundError():
            return "use one of its branches, tags or commits"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return "free some space, or set HF_HOME to a folder on another disk"
        case HfHubHTTPError():
            return "try again later"
    return (
        "fetch it where there is a network, with `snakemake --until fetch` and the same HF_HOME, "
        f"or set HF_HOME to a folder that holds it (its models are now read from "
        f"{constants.HF_HUB_CACHE})"
    )
