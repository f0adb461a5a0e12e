"""Features of a dictionary: patched with their error kept."""

import pytest
import torch
from safetensors.torch import save_file

from lmri.anatomy import read_dictionary, with_dictionary
from lmri.errors import LmriError
from lmri.localise.attribution import sites, traced


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


@pytest.mark.parametrize("place", ["before", "mid", "after"])
@pytest.mark.parametrize("kind", ["llama", "granitemoe"])
def test_a_whole_dictionary_is_the_residual(kind, place, write, subject_of, pair_of):
    subject, (clean, corrupted, pair) = subject_of(kind), pair_of(kind)
    dictionary = read_dictionary(write({**GOOD, "place": place}), subject)
    (features,) = sites(with_dictionary(subject, dictionary), "feature")
    residual = sites(subject, "residual")[3 + ["before", "mid", "after"].index(place)]
    where = torch.ones(clean.shape)
    with traced(subject) as tracer:
        keep = features.keep | residual.keep
        other = tracer.run(clean, pair, keep)
        run = tracer.slopes(corrupted, pair, keep)
        total = sum(features.written(other, u) - features.written(run, u) for u in range(64))
        torch.testing.assert_close(total, residual.written(other, 0) - residual.written(run, 0))
        patched = tracer.run(corrupted, pair, add={features.point: total})
    torch.testing.assert_close(patched.difference, other.difference, rtol=1e-4, atol=1e-4)
    slope = run.slopes[features.point]
    shares = features.projected(run, slope, where)
    torch.testing.assert_close(
        shares.sum(1), residual.projected(run, slope, where)[:, 0], rtol=1e-4, atol=1e-4
    )
    one = (features.written(run, 5) * slope).sum((1, 2))
    torch.testing.assert_close(shares[:, 5], one, rtol=1e-4, atol=1e-5)


def test_one_feature_moves_only_its_direction(write, subject_of, pair_of):
    subject, (clean, corrupted, pair) = subject_of("llama"), pair_of("llama")
    (features,) = sites(with_dictionary(subject, read_dictionary(write(GOOD), subject)), "feature")
    with traced(subject) as tracer:
        runs = [tracer.run(ids, pair, features.keep) for ids in (clean, corrupted)]
    change = features.written(runs[0], 7) - features.written(runs[1], 7)
    assert change[..., 7].any()
    change[..., 7] = 0
    assert not change.any()


def test_features_need_a_dictionary_and_units_must_be_there(subject_of):
    with pytest.raises(LmriError, match=r"'feature'.*needs a 'dictionary'"):
        sites(subject_of("llama"), "feature")
    with pytest.raises(LmriError, match=r"'tiny' .'llama'. has no units of the kind 'expert'"):
        sites(subject_of("llama"), "expert")
    with pytest.raises(LmriError, match=r"'kinds'.*Got 'synapse'"):
        sites(subject_of("llama"), "synapse")
