"""What must hold of a folder before a model is made of it: safetensors, complete, no code.

Only names, headers and JSON are read here, so that a mistake is found before gigabytes are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING

from lmri.errors import SubjectError
from lmri.store import sha256_file
from lmri.store.weight_files import POINTER

MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
"""Weights as safetensors, configuration, tokenizer, chat template; never code."""

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
"""Names of the files of the weights by part; read when there is no single file."""

DEQUANTISE = "dequantise the model, save it in bfloat16 with save_pretrained, and use that folder."

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def resolve_pointer(path: Path) -> Path:
    """Follow the ``pointer.json`` of an external subject.

    Parameters
    ----------
    path : Path
        Prepared folder of a subject.

    Returns
    -------
    Path
        The folder that holds the weights.

    Raises
    ------
    SubjectError
        If the pointer cannot be read.
    """
    pointer = path / POINTER
    if not pointer.is_file():
        return path
    return Path(_read_pointer(pointer)["path"])


def model_files(folder: Path) -> list[Path]:
    """List the files that decide what a model does: weights, configuration, tokenizer.

    Parameters
    ----------
    folder : Path
        Hugging Face layout.

    Returns
    -------
    list of Path
        The files, sorted by name.
    """
    return sorted(path for pattern in MODEL_FILES for path in folder.glob(pattern))


def check_weights(folder: Path) -> list[Path]:
    """Check that a folder holds a complete model in safetensors that needs no code of its own.

    Parameters
    ----------
    folder : Path
        Hugging Face layout.

    Returns
    -------
    list of Path
        The safetensors files.

    Raises
    ------
    SubjectError
        Naming the folder or file and what to do.
    """
    if not folder.is_dir():
        raise SubjectError(
            f"{folder}: a subject must be a folder in Hugging Face layout. Not found."
        )
    if not (folder / "config.json").is_file():
        raise SubjectError(f"{folder}: a subject must have a config.json. Not found.")
    _check_configuration(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = pickled_files(folder)
        got = f"Got pickled weights ({pickled[0]})" if pickled else "Got no weights"
        raise SubjectError(
            f"{folder}: weights must be in safetensors. {got}: pickled files can run code and "
            "are never loaded; convert them with save_pretrained in a safe place."
        )
    _check_complete(folder, files)
    for file in files:
        _check_readable(file)
    return files


def pickled_files(folder: Path) -> list[str]:
    """List the files of a folder that would have to be unpickled.

    Parameters
    ----------
    folder : Path
        Hugging Face layout.

    Returns
    -------
    list of str
        Their names, sorted.
    """
    return sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)


def check_unchanged(folder: Path, pointer: Path) -> None:
    """Check that an external model is, byte for byte, what was prepared.

    Parameters
    ----------
    folder : Path
        The folder that holds the weights.
    pointer : Path
        The ``pointer.json`` with the SHA-256 of its files.

    Raises
    ------
    SubjectError
        Naming the first file that was added, removed or changed.
    """
    expected = pointed_files(pointer)
    got = {path.name: sha256_file(path) for path in model_files(folder)}
    for name in sorted({*expected, *got}):
        if expected.get(name) != got.get(name):
            raise SubjectError(
                f"{folder}: '{name}' must be as it was when the subject was prepared. It was "
                f"added, removed or changed: delete {pointer.parent} to prepare the subject again."
            )


def pointed_files(pointer: Path) -> dict[str, str]:
    """Read the names and the SHA-256 of the files of an external model.

    Parameters
    ----------
    pointer : Path
        Its ``pointer.json``.

    Returns
    -------
    dict of str to str
        SHA-256 by name.

    Raises
    ------
    SubjectError
        If the pointer cannot be read.
    """
    return _read_pointer(pointer)["files"]


def _read_pointer(pointer: Path) -> dict:
    try:
        content = json.loads(pointer.read_text(encoding="utf-8"))
        return {"path": content["path"], "files": dict(content["files"])}
    except (ValueError, KeyError, TypeError) as error:
        raise SubjectError(
            f"{pointer}: must be JSON with the 'path' of a model and the hashes of its 'files' "
            f"({error}). Prepare it again."
        ) from None


def quantised_by(config: Mapping[str, Any]) -> str | None:
    """Name the method by which the weights of a model are quantised.

    Parameters
    ----------
    config : mapping
        What its ``config.json`` says.

    Returns
    -------
    str or None
        The method; None where they are not.
    """
    quantised = config.get("quantization_config")
    if not quantised:
        return None
    return str(quantised.get("quant_method") if isinstance(quantised, dict) else quantised)


def _check_configuration(folder: Path) -> None:
    config = _read_object(folder / "config.json")
    kind = config.get("model_type")
    code = config.get("auto_map")
    # Where transformers has the architecture itself, its class is used and the code is not needed.
    if code and kind not in CONFIG_MAPPING:
        named = sorted(map(str, code.values())) if isinstance(code, dict) else [str(code)]
        raise SubjectError(
            f"{folder}: cannot be loaded: its config.json asks for code of its own (auto_map: "
            f"{named[0]}), which is never run. Use a model whose architecture is part of "
            f"transformers; '{kind}' is not."
        )
    if method := quantised_by(config):
        raise SubjectError(
            f"{folder}: weights must not be quantised. Got quantization_config '{method}': "
            f"{DEQUANTISE}"
        )
    if (folder / "adapter_config.json").is_file():
        raise SubjectError(
            f"{folder}: a subject must be a whole model. Got an adapter (adapter_config.json): "
            "merge it into its model and save that with save_pretrained."
        )


def _check_complete(folder: Path, files: list[Path]) -> None:
    names = {file.name for file in files}
    if WEIGHTS in names:
        return
    if not (folder / INDEX).is_file():
        raise SubjectError(
            f"{folder}: weights must be in {WEIGHTS}, or in parts listed by {INDEX}. "
            f"Got {files[0].name} without the list: fetch or save the model again."
        )
    parts = _read_object(folder / INDEX).get("weight_map")
    if not isinstance(parts, dict) or not parts:
        raise SubjectError(
            f"{folder / INDEX}: must have a 'weight_map' of tensors to files. "
            "Fetch or save the model again."
        )
    for part in sorted(set(map(str, parts.values()))):
        # A name with a folder in it fails here too: files are looked for nowhere else.
        if part not in names:
            raise SubjectError(
                f"{folder}: every part of the weights must be there. '{part}', which {INDEX} "
                "lists, is not: fetch or save the model again."
            )


def _read_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SubjectError(
            f"{file.parent}: cannot be loaded ({file.name} is not readable JSON: {error})."
        ) from None
    if not isinstance(content, dict):
        raise SubjectError(f"{file.parent}: cannot be loaded ({file.name} is not a JSON object).")
    return content


def _check_readable(file: Path) -> None:
    try:
        with safe_open(file, framework="pt") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as error:
        raise SubjectError(
            f"{file}: not a readable safetensors file ({error}). Fetch or train it again."
        ) from None
