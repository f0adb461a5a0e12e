"""Loading a subject: local files, safetensors only, no code from the model's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from lmri.anatomy.sites import Anatomy, describe
from lmri.errors import SubjectError
from lmri.store import sha256_file

POINTER = "pointer.json"
"""File that stands for an external subject: its path, and the SHA-256 of its files."""

MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")
"""Weights as safetensors, configuration, tokenizer; never code."""

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True)
class Subject:
    """A loaded subject.

    Attributes
    ----------
    name : str
        Its name in the study.
    model : torch.nn.Module
        Causal language model in evaluation mode, float32, without gradients.
    tokenizer : transformers.PreTrainedTokenizerBase
        Its tokenizer.
    anatomy : Anatomy
        What it is made of.
    """

    name: str
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    anatomy: Anatomy


def load_subject(path: Path, name: str, threads: int | None = None) -> Subject:
    """Load a subject from a prepared folder.

    Parameters
    ----------
    path : Path
        Hugging Face layout, or a folder with a ``pointer.json`` that names one.
    name : str
        Name of the subject in the study.
    threads : int, optional
        Threads of torch; by default what the environment says.

    Returns
    -------
    Subject
        The subject, in float32 on the CPU.

    Raises
    ------
    SubjectError
        If the folder is missing, holds no safetensors, holds pickled weights instead, has no
        tokenizer, a file is damaged or was changed since the subject was prepared, or the tensors
        are not those of the architecture.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    folder = resolve_pointer(path)
    check_weights(folder)
    if folder != path:
        _check_unchanged(folder, path / POINTER)
    with _quiet():
        model = _load_model(folder)
        tokenizer = _load_tokenizer(folder)
    model.eval().requires_grad_(False)
    return Subject(name, model, tokenizer, describe(model))


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a subject, and nothing else of it.

    Parameters
    ----------
    path : Path
        Hugging Face layout, or a folder with a ``pointer.json`` that names one.

    Returns
    -------
    transformers.PreTrainedTokenizerBase
        The tokenizer.

    Raises
    ------
    SubjectError
        If the folder is missing, or its tokenizer is missing or damaged.
    """
    folder = resolve_pointer(path)
    if not folder.is_dir():
        raise SubjectError(
            f"{folder}: a subject must be a folder in Hugging Face layout. Not found."
        )
    with _quiet():
        return _load_tokenizer(folder)


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
    """Check that a folder holds readable safetensors and nothing that would be unpickled.

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
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLED)
        got = f"Got pickled weights ({pickled[0]})" if pickled else "Got no weights"
        raise SubjectError(
            f"{folder}: weights must be in safetensors. {got}: pickled files can run code and "
            "are never loaded; convert them with save_pretrained in a safe place."
        )
    for file in files:
        _check_readable(file)
    return files


def _read_pointer(pointer: Path) -> dict:
    try:
        content = json.loads(pointer.read_text(encoding="utf-8"))
        return {"path": content["path"], "files": dict(content["files"])}
    except (ValueError, KeyError, TypeError) as error:
        raise SubjectError(
            f"{pointer}: must be JSON with the 'path' of a model and the hashes of its 'files' "
            f"({error}). Prepare it again."
        ) from None


def _check_unchanged(folder: Path, pointer: Path) -> None:
    expected = _read_pointer(pointer)["files"]
    got = {path.name: sha256_file(path) for path in model_files(folder)}
    for name in sorted({*expected, *got}):
        if expected.get(name) != got.get(name):
            raise SubjectError(
                f"{folder}: '{name}' must be as it was when the subject was prepared. It was "
                f"added, removed or changed: delete {pointer.parent} to prepare the subject again."
            )


def _check_readable(file: Path) -> None:
    try:
        with safe_open(file, framework="pt") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as error:
        raise SubjectError(
            f"{file}: not a readable safetensors file ({error}). Fetch or train it again."
        ) from None


def _load_model(folder: Path) -> nn.Module:
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            # Listed in the report instead of raised: the message below names the tensor.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SubjectError(f"{folder}: cannot be loaded ({first}).") from None
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[problem]:
            raise SubjectError(
                f"{folder}: the weights have {problem.replace('_', ' ')}: "
                f"{sorted(map(str, report[problem]))[0]} and {len(report[problem]) - 1} more. "
                "They belong to another architecture or configuration, or are incomplete."
            )
    return model


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # noqa: BLE001 - the tokenizers library raises nothing narrower
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SubjectError(f"{folder}: the tokenizer cannot be loaded ({first}).") from None
    # Without its files the library makes up a tokenizer that knows no text.
    if not any((folder / name).is_file() for name in tokenizer.vocab_files_names.values()):
        raise SubjectError(
            f"{folder}: a subject must have the files of its tokenizer (tokenizer.json). Not found."
        )
    return tokenizer


@contextmanager
def _quiet() -> Iterator[None]:
    # The library draws a progress bar and a table of problems; a log of a job is not a terminal,
    # and a problem is one line.
    was_enabled, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if was_enabled:
            logging.enable_progress_bar()
