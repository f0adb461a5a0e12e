"""Dictionaries of features: an encoder and a decoder of the residual of one layer, from a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from lmri.anatomy.loading import Subject
from lmri.checks import check_choice, check_range, quoted
from lmri.errors import StoreError
from lmri.store import sha256_file

TENSORS = ("encoder", "encoder_bias", "decoder")


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Features of a residual: ``f = relu(x W_e + b_e)``, ``x = f W_d + b_d + error``.

    Attributes
    ----------
    path : Path
        Its file.
    layer : int
        The layer.
    place : str
        Where in the layer: ``before``, ``mid`` or ``after``.
    encoder : Tensor of shape (hidden, features)
        ``W_e``.
    encoder_bias : Tensor of shape (features,)
        ``b_e``. A dictionary that subtracts a bias from its input has it folded in here.
    decoder : Tensor of shape (features, hidden)
        ``W_d``. ``b_d`` is the same in every run: no difference depends on it.
    sha256 : str
        Of the file.
    """

    path: Path
    layer: int
    place: str
    encoder: torch.Tensor
    encoder_bias: torch.Tensor
    decoder: torch.Tensor
    sha256: str = ""

    def encode(self, residual: torch.Tensor, chosen: slice = slice(None)) -> torch.Tensor:
        """Features of a residual.

        Parameters
        ----------
        residual : Tensor of shape (..., hidden)
            The residual.
        chosen : slice
            Which features; by default all.

        Returns
        -------
        Tensor of shape (..., chosen features)
            Never negative.
        """
        return torch.relu(residual @ self.encoder[:, chosen] + self.encoder_bias[chosen])


def read_dictionary(path: Path, subject: Subject) -> Dictionary:
    """Read a dictionary for a subject.

    Parameters
    ----------
    path : Path
        A safetensors file with ``encoder`` (hidden, features), ``encoder_bias`` (features),
        ``decoder`` (features, hidden), and ``layer`` and ``place`` in its metadata.
    subject : Subject
        Gives data type and device.

    Returns
    -------
    Dictionary
        The dictionary.

    Raises
    ------
    StoreError
        If the file is missing, is no safetensors file, lacks a tensor or an entry of the metadata,
        or shapes do not fit each other or the subject.
    """
    try:
        with safe_open(path, framework="pt") as file:
            _check_tensors(path, set(file.keys()))
            tensors = {name: file.get_tensor(name) for name in TENSORS}
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"{path}: a dictionary must be a safetensors file. Got {type(error).__name__}: {error}."
        ) from None
    hidden, features = subject.anatomy.hidden, tensors["encoder_bias"].numel()
    wanted = {
        "encoder": (hidden, features),
        "encoder_bias": (features,),
        "decoder": (features, hidden),
    }
    for name, shape in wanted.items():
        if tuple(tensors[name].shape) != shape:
            raise StoreError(
                f"{path}: '{name}' must have the shape {shape} (hidden size {hidden} of subject "
                f"'{subject.name}', {features} features). Got {tuple(tensors[name].shape)}: give a "
                "dictionary that was trained on this subject."
            )
    place, layer = metadata.get("place", ""), metadata.get("layer", "")
    if not layer.isdecimal():
        raise StoreError(
            f"{path}: the metadata must have 'layer', a number, and 'place'. Got layer {layer!r}: "
            "save the file with metadata={'layer': '3', 'place': 'after'}."
        )
    own = {n: t.to(subject.device, subject.dtype) for n, t in tensors.items()}
    anatomy = subject.anatomy
    check_range(int(layer), "layer", str(path), 0, anatomy.layers - 1, StoreError)
    check_choice(place, anatomy.places, "place", str(path), StoreError)
    return Dictionary(Path(path), int(layer), place, **own, sha256=sha256_file(Path(path)))


def with_dictionary(subject: Subject, dictionary: Dictionary) -> Subject:
    """Give a subject the features of a dictionary as units of its own.

    Parameters
    ----------
    subject : Subject
        The subject.
    dictionary : Dictionary
        A dictionary of it.

    Returns
    -------
    Subject
        The same model, with the dictionary and its features in the anatomy.
    """
    features = {"feature_layers": (dictionary.layer,), "features": len(dictionary.decoder)}
    anatomy = replace(subject.anatomy, **features)
    return replace(subject, dictionary=dictionary, anatomy=anatomy)


def _check_tensors(path: Path, present: set[str]) -> None:
    missing = set(TENSORS) - present
    if missing:
        raise StoreError(
            f"{path}: a dictionary must have the tensors {quoted(TENSORS)}. It lacks "
            f"{quoted(missing)} and has {quoted(present)}."
        )
