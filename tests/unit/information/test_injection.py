"""Noise in the forward pass: its size, its place, and that nothing is left behind."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from families import tiny_model

from lmri.anatomy import Subject, describe, load_subject, trunk
from lmri.errors import EvidenceError
from lmri.information.compression import compressed_information
from lmri.information.injection import (
    cross_entropy,
    injected_noise,
    last_states,
    residual_scales,
)
from lmri.information.samples import root_mean_square

PROMPTS = [[1, 5, 9, 3], [2, 7, 4, 4], [8, 3]]


@pytest.fixture(scope="module")
def tiny_subject(tiny_model_folder):
    """A copy of its own: transformers leaves hooks behind where hidden states were asked for."""
    return load_subject(tiny_model_folder, "tiny")


def states(subject):
    """Residual stream after every block but the last, of the first two prompts."""
    ids = torch.tensor(PROMPTS[:2])
    with torch.inference_mode():
        out = trunk(subject.model)(input_ids=ids, use_cache=False, output_hidden_states=True)
    return [own.double().numpy() for own in out.hidden_states]


def test_scales_are_those_of_the_stream(tiny_subject):
    found = residual_scales(tiny_subject, PROMPTS[:2])
    assert list(found) == list(range(tiny_subject.anatomy.layers))
    own = states(tiny_subject)[1]
    expected = root_mean_square(own.reshape(-1, own.shape[-1]))
    assert found[0] == pytest.approx(expected, rel=1e-5)


def test_noise_has_its_size_and_goes_on(tiny_subject):
    clean = states(tiny_subject)
    scales = residual_scales(tiny_subject, PROMPTS)
    with injected_noise(tiny_subject, {0: scales[0]}, 0.5, seed=3):
        noisy = states(tiny_subject)
    added = noisy[1] - clean[1]
    assert np.array_equal(noisy[0], clean[0])
    assert added.std() == pytest.approx(0.5 * scales[0], rel=0.15)
    assert np.abs(noisy[2] - clean[2]).max() > 0  # later layers read it
    with injected_noise(tiny_subject, {0: scales[0]}, 0.5, seed=3):
        assert np.array_equal(states(tiny_subject)[1], noisy[1])


@pytest.mark.parametrize("kind", ["gpt2", "olmoe", "bert"])
def test_noise_of_any_architecture_is_what_is_read(kind):
    model = tiny_model(kind)
    subject = Subject(kind, model, None, describe(model))
    prompts = [[5, 6, 7, 8], [9, 10, 11, 12]]
    clean = last_states(subject, prompts)
    with injected_noise(subject, {0: 2.0}, 10.0, seed=0):
        noisy = last_states(subject, prompts)
    assert (noisy[0] - clean[0]).std() == pytest.approx(20, rel=0.25)
    again = last_states(subject, prompts)
    assert all(np.array_equal(again[layer], clean[layer]) for layer in clean)


def test_states_of_last_tokens(tiny_subject):
    found = last_states(tiny_subject, PROMPTS)
    hidden = states(tiny_subject)
    assert found[0][:2] == pytest.approx(hidden[1][:, -1], abs=1e-5)
    assert found[0].shape == (3, tiny_subject.anatomy.hidden)
    assert all(np.isfinite(own).all() for own in found.values())


def test_noise_has_its_cost(tiny_subject):
    scales = residual_scales(tiny_subject, PROMPTS)
    clean = cross_entropy(tiny_subject, PROMPTS)
    ids = torch.tensor([PROMPTS[2]])
    with torch.inference_mode():
        logp = tiny_subject.model(input_ids=ids).logits.log_softmax(-1)
    assert cross_entropy(tiny_subject, PROMPTS[2:]) == pytest.approx(
        -float(logp[0, 0, 3]), abs=1e-5
    )
    with injected_noise(tiny_subject, scales, 0.001, seed=0):
        little = cross_entropy(tiny_subject, PROMPTS)
    with injected_noise(tiny_subject, scales, 3.0, seed=0):
        much = cross_entropy(tiny_subject, PROMPTS)
    assert 0 < abs(little - clean) < abs(much - clean)


def test_information_of_the_noisy_subject(tiny_subject):
    """The last token is told apart without noise, and no longer with much of it."""
    rng = np.random.default_rng(0)
    first, last = rng.integers(0, 20, size=(2, 120))
    prompts = [[int(a), 20 + int(b) % 2] for a, b in zip(first, last, strict=True)]
    labels = last % 2
    scales = residual_scales(tiny_subject, prompts)
    value = {}
    for noise in (0.1, 5.0):
        with injected_noise(tiny_subject, scales, noise, seed=0):
            own = last_states(tiny_subject, prompts)
        found = compressed_information(own[0], labels, noise=0, dimensions=2)
        value[noise] = found.value
    assert value[0.1] > 0.4
    assert value[5.0] < 0.5 * value[0.1]


def test_nothing_is_left_behind(tiny_subject):
    clean = states(tiny_subject)
    with injected_noise(tiny_subject, {0: 1.0}, 0.0, seed=0):
        assert np.array_equal(states(tiny_subject)[-1], clean[-1])
    with pytest.raises(RuntimeError), injected_noise(tiny_subject, {0: 1.0}, 1.0, seed=0):
        raise RuntimeError
    assert np.array_equal(states(tiny_subject)[-1], clean[-1])


@pytest.mark.parametrize(
    ("scales", "noise", "message"),
    [({99: 1.0}, 0.1, r"must be in \[0, \d+\]\. Got 99"), ({0: 1.0}, -0.1, "'noise' of injected")],
)
def test_layers_and_noise_that_are_refused(tiny_subject, scales, noise, message):
    context = injected_noise(tiny_subject, scales, noise, seed=0)
    with pytest.raises(EvidenceError, match=message), context:
        pass


def test_costs_that_cannot_be_told(tiny_subject):
    with pytest.raises(EvidenceError, match="two tokens"):
        cross_entropy(tiny_subject, [[3]])
    anatomy = replace(tiny_subject.anatomy, encoder=True)
    with pytest.raises(EvidenceError, match="predicts no next token"):
        cross_entropy(replace(tiny_subject, anatomy=anatomy), PROMPTS)


def test_scales_of_nothing(tiny_subject):
    with pytest.raises(EvidenceError, match="at least 2 tokens"):
        residual_scales(tiny_subject, [])
