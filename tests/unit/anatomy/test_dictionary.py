"""Dictionaries of features: read, checked, and given to a subject as units."""

import pytest
import torch
from families import tiny_model
from safetensors.torch import save_file

from lmri.anatomy import Subject, describe, read_dictionary, with_dictionary
from lmri.errors import StoreError
from lmri.store import sha256_file


@pytest.fixture
def subject_of():
    """The subject of an architecture."""
    return lambda kind: Subject("tiny", tiny_model(kind), None, describe(tiny_model(kind)))


@pytest.fixture
def write(tmp_path):
    """Write a dictionary whose features are the parts of the residual above and below 0."""

    def make(metadata=None, **changes):
        eye = torch.eye(32)
        tensors = {
            "encoder": torch.cat([eye, -eye], 1),
            "encoder_bias": torch.zeros(64),
            "decoder": torch.cat([eye, -eye], 0),
        }
        tensors = {k: v for k, v in {**tensors, **changes}.items() if v is not None}
        path = tmp_path / "features.safetensors"
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata)
        return path

    return make


GOOD = {"layer": "1", "place": "mid"}


@pytest.mark.parametrize(
    ("metadata", "changes", "words"),
    [
        (GOOD, {"encoder": torch.zeros(16, 64)}, r"'encoder' must have the shape \(32, 64\)"),
        (GOOD, {"decoder": torch.zeros(64, 16)}, r"'decoder' must have the shape \(64, 32\)"),
        (GOOD, {"decoder": None}, "lacks 'decoder'"),
        (None, {}, "metadata must have 'layer'"),
        ({"layer": "2", "place": "after"}, {}, r"'layer'.*\[0, 1\]. Got 2"),
        ({"layer": "1", "place": "end"}, {}, "'place'.*'after', 'before', 'mid'. Got 'end'"),
    ],
)
def test_what_does_not_fit_is_named(metadata, changes, words, write, subject_of):
    path = write(metadata, **changes)
    with pytest.raises(StoreError, match=words) as caught:
        read_dictionary(path, subject_of("llama"))
    assert str(path) in str(caught.value)


def test_a_file_of_another_kind_is_refused(tmp_path, subject_of):
    for name, content in (("missing.safetensors", None), ("pickle.pt", b"\x80\x04nothing")):
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreError, match=f"{name}: a dictionary must be a safetensors file"):
            read_dictionary(tmp_path / name, subject_of("llama"))


def test_features_become_units_of_the_subject(write, subject_of):
    subject, path = subject_of("llama"), write(GOOD)
    dictionary = read_dictionary(path, subject)
    assert dictionary.sha256 == sha256_file(path)
    extended = with_dictionary(subject, dictionary)
    assert (extended.anatomy.feature_layers, extended.anatomy.features) == ((1,), 64)
    assert extended.model is subject.model and subject.dictionary is None
    states = torch.randn(5, 32)
    torch.testing.assert_close(dictionary.encode(states) @ dictionary.decoder, states)
    assert torch.equal(dictionary.encode(states, slice(7, 8)), states[:, 7:8].relu())
