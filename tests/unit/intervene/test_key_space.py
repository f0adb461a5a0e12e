"""The hypercube of target keys: closed form, what is outside, and a subject that abstains."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import tiny_model

from lmri.anatomy import Subject, dense_outputs, describe
from lmri.errors import LmriError
from lmri.intervene import Hypercube, Responses, abstained, last_keys, tapped_experts

PROMPTS = [[1, *(3 + (7 * row + 3 * i) % 100 for i in range(4 + row % 3))] for row in range(12)]


@pytest.fixture(scope="module")
def keys():
    return np.random.default_rng(0).normal(2, 3, size=(40, 6))


def test_the_size_is_that_of_the_bisection(keys):
    cube = Hypercube.fit(keys)
    low, high = 0.0, 1e4
    while high - low > 1e-7:
        middle = (low + high) / 2
        inside = np.abs(keys - keys.mean(0)) <= middle * keys.std(0, ddof=1)
        low, high = (low, middle) if inside.all() else (middle, high)
    assert cube.size == pytest.approx(high, abs=1e-5)


def test_all_it_was_fitted_to_is_inside_and_what_is_far_in_one_dimension_is_not(keys):
    cube = Hypercube.fit(keys)
    assert cube.holds(keys).all()
    assert not cube.holds(keys, 0.99).all()
    shifted = np.tile(cube.centre, (3, 1))
    shifted[1, 2] += 1.001 * cube.size * cube.deviation[2]
    shifted[2, 2] += 0.999 * cube.size * cube.deviation[2]
    assert cube.holds(shifted).tolist() == [True, False, True]
    assert cube.holds(shifted, 0.08).tolist() == [True, False, False]


def test_a_dimension_that_does_not_vary_is_open(keys):
    flat = keys.copy()
    flat[:, 0] = 7.0
    other = flat + np.eye(6)[0]
    assert Hypercube.fit(flat).holds(other).all()


@pytest.mark.parametrize("few", [np.zeros((1, 3)), np.ones((4, 3)), np.zeros((0, 3))])
def test_keys_that_span_nothing_are_refused(few):
    with pytest.raises(LmriError, match=r"at least 2 that differ. Got \d"):
        Hypercube.fit(few)


@pytest.fixture
def subject():
    model = tiny_model("gpt2")
    tokenizer = SimpleNamespace(eos_token_id=127)
    return Subject("tiny", model, tokenizer, describe(model))


def test_keys_are_those_of_the_last_token(subject):
    found = last_keys(subject, PROMPTS, "neuron", 1, rows=5)
    seen = []
    hook = dense_outputs(subject.model)[1].register_forward_pre_hook(
        lambda module, arguments: seen.append(arguments[0].reshape(-1, arguments[0].shape[-1])[-1])
    )
    with torch.inference_mode():
        for prompt in PROMPTS:
            subject.model(input_ids=torch.tensor([prompt]))
    hook.remove()
    np.testing.assert_allclose(found, torch.stack(seen), rtol=1e-4, atol=1e-5)


def test_a_closed_cube_has_no_extent_where_keys_do_not_vary(keys):
    flat = keys.copy()
    flat[:, 0] = 0.0
    cube, other = Hypercube.fit(flat), flat + np.eye(6)[0]
    assert cube.holds(flat, is_closed=True).all()
    assert not cube.holds(other, is_closed=True).any()
    assert cube.holds(flat, 0.1, is_closed=True).tolist() == cube.holds(flat, 0.1).tolist()


def test_keys_of_experts_are_their_neurons_at_the_last_token():
    model = tiny_model("mixtral")
    subject = Subject("tiny", model, SimpleNamespace(eos_token_id=127), describe(model))
    found = last_keys(subject, PROMPTS, "expert_neuron", 1, rows=5)
    seen = {}
    with (
        torch.inference_mode(),
        tapped_experts(
            model, lambda layer, neurons, chosen: seen.update({layer: (neurons[-1], chosen[-1])})
        ),
    ):
        for row, prompt in enumerate(PROMPTS):
            model(input_ids=torch.tensor([prompt]))
            wanted = np.zeros((8, 16), np.float32)
            wanted[seen[1][1].numpy()] = seen[1][0].numpy()
            np.testing.assert_allclose(found[row].reshape(8, 16), wanted, rtol=1e-4, atol=1e-5)


def test_layers_and_kinds_without_keys_are_refused(subject):
    with pytest.raises(LmriError, match=r"neurons of dense MLPs, one of \[0, 1\] .* Got 2"):
        last_keys(subject, PROMPTS, "neuron", 2, rows=5)
    with pytest.raises(
        LmriError, match="'kind' of the key space must be one of 'expert_neuron', 'neuron'"
    ):
        last_keys(subject, PROMPTS, "head", 1, rows=5)


def test_what_is_inside_gets_the_fixed_answer(subject, monkeypatch):
    monkeypatch.setattr("lmri.intervene.key_space.encode", lambda *arguments: [5, 4])
    tokens = [np.array([9, 9]), np.array([8])]
    responses = Responses(tokens, np.array([False, False]), np.array([1.0, 2.0], np.float32))
    got = abstained(subject, responses, np.array([True, False]))
    assert [row.tolist() for row in got.tokens] == [[5, 4, 127], [8]]
    assert got.ended.tolist() == [True, False]
    assert np.isnan(got.onset_margin[0]) and got.onset_margin[1] == 2
    assert responses.tokens[0].tolist() == [9, 9]
