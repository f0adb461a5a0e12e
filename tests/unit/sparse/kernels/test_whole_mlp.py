"""MLPs in one call against masked dense products; what is skipped is not read."""

import pytest
import torch
from sparse_products import WEIGHTS, assert_close, random

from lmri.sparse.kernels import ACTIVATIONS

SHAPES = [(1, 1, 1), (5, 3, 7), (33, 16, 65), (300, 40, 130), (1100, 20, 4100)]
"""Neurons, inputs, outputs: blocks of neurons and tiles of outputs that are and are not full."""

THRESHOLD = torch.tensor(0.3)


def arguments_of(shape, rows, weights, activations, *, gated=True, biased=True, name="silu"):
    neurons, inputs, outputs = shape
    x = random(*(() if rows is None else (rows,)), inputs, dtype=activations)
    first, up = (random(neurons, inputs, seed=seed, dtype=weights) for seed in (1, 2))
    first *= max(1, inputs) ** -0.5
    down_t = random(neurons, outputs, seed=3, dtype=weights)
    biases = random(neurons, seed=4), random(neurons, seed=5), random(outputs, seed=6)
    if not biased:
        biases = None, None, None
    up, bias_up = (up, biases[1]) if gated else (None, None)
    return (x, first, up, down_t, name, THRESHOLD, biases[0], bias_up, biases[2])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("activations", WEIGHTS)
@pytest.mark.parametrize("rows", [None, 3, 8])
@pytest.mark.parametrize(("gated", "biased"), [(True, True), (True, False), (False, True)])
def test_it_is_the_masked_mlp(cpu, reference, shape, weights, activations, rows, gated, biased):
    arguments = arguments_of(shape, rows, weights, activations, gated=gated, biased=biased)
    y, a = cpu.whole_mlp(*arguments)
    assert_close(a, reference.whole_mlp(*arguments)[1])
    # Which neurons pass is decided by the kernel: a value beside the threshold may be rounded to
    # either side of it.
    x, first, up, down_t, _, _, bias_in, bias_up, bias_down = arguments
    before = x.float() @ first.float().T + (0 if bias_in is None else bias_in)
    assert_close(a, torch.nn.functional.silu(before.to(x.dtype)))
    neurons = a.float() * (a.float().abs() > THRESHOLD)
    if gated:
        neurons = neurons * (x.float() @ up.float().T + (0 if bias_up is None else bias_up))
    expected = neurons @ down_t.float() + (0 if bias_down is None else bias_down)
    assert_close(y, expected.to(x.dtype))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("activations", WEIGHTS)
def test_activation_functions_are_those_of_torch(any_backend, name, activations):
    x = torch.linspace(-12, 12, 8)[:, None].to(activations)
    first, down_t = torch.linspace(-1, 1, 201)[:, None], torch.eye(201)
    y, a = any_backend.whole_mlp(x, first, None, down_t, name, torch.tensor(0.0))
    expected = ACTIVATIONS[name]((x.float() * first.T).to(activations))
    # Where the tails of GELU come of 1 + erf, what is left is rounding of the whole.
    step = {torch.float32: 1e-6, torch.bfloat16: 2**-7}[activations]
    torch.testing.assert_close(a, expected, rtol=step, atol=1.5e-6)
    assert y.equal(a + 0.0)  # a zero that is skipped has no sign


@pytest.mark.parametrize("rows", [None, 2, 8])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_neither_weights_of_a_skipped_neuron_are_read(cpu, reference, weights, rows):
    arguments = arguments_of((300, 40, 130), rows, weights, torch.float32)
    x, first, up, down_t, *others = arguments
    clean, a = cpu.whole_mlp(*arguments)
    clean, a = clean.reshape(-1, 130), a.reshape(-1, 300)
    for row in range(len(a)):
        skipped = a[row].abs() <= THRESHOLD
        assert 0.3 < skipped.float().mean() < 0.9
        planted = [weight.clone() for weight in (up, down_t)]
        for weight in planted:
            weight[skipped] = torch.nan
        got = cpu.whole_mlp(x, first, *planted, *others)[0].reshape(-1, 130)[row]
        assert got.equal(clean[row])
        assert reference.whole_mlp(x, first, *planted, *others)[0].isnan().any()


@pytest.mark.parametrize("shape", [(0, 3, 4), (5, 0, 4), (5, 3, 0)], ids=str)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_nothing_to_multiply(any_backend, shape, weights):
    arguments = arguments_of(shape, 2, weights, torch.float32)[:1]
    neurons, inputs, outputs = shape
    first, down_t = torch.ones(neurons, inputs), torch.ones(neurons, outputs)
    arguments = (*arguments, *(w.to(weights) for w in (first, first, down_t)), "gelu", THRESHOLD)
    y, a = any_backend.whole_mlp(*arguments, None, None, torch.ones(outputs))
    assert y.shape == (2, outputs) and a.shape == (2, neurons)
    assert not y.numel() or y.eq(1).all()


def test_what_is_no_number_shows(any_backend):
    arguments = arguments_of((70, 8, 5), 3, torch.float32, torch.float32)
    arguments[1][33] = torch.nan
    y, a = any_backend.whole_mlp(*arguments)
    assert y.isnan().all() and a.isnan().nonzero()[:, 1].tolist() == [33] * 3


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_thresholds_are_strict_and_each_neuron_has_its_own(any_backend, name):
    _, a = any_backend.whole_mlp(
        torch.ones(1), torch.arange(1.0, 101)[:, None] / 40, None, torch.eye(100), name, THRESHOLD
    )
    thresholds = a.clone()
    thresholds[::3] = a[::3].nextafter(torch.tensor(0.0))
    y, _ = any_backend.whole_mlp(
        torch.ones(1), torch.arange(1.0, 101)[:, None] / 40, None, torch.eye(100), name, thresholds
    )
    assert y.nonzero()[:, 0].tolist() == list(range(0, 100, 3))


@pytest.mark.parametrize("rows", [None, 5])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("neurons", [100, 1500])  # 1 and 16 parts of the sums
def test_bits_do_not_depend_on_threads(cpu, weights, rows, neurons):
    arguments = arguments_of((neurons, 200, 300), rows, weights, torch.float32)
    results, before = [], torch.get_num_threads()
    try:
        for turn in range(20):
            torch.set_num_threads((1, 2, 3, 16)[turn % 4])
            results.append(cpu.whole_mlp(*arguments))
    finally:
        torch.set_num_threads(before)
    for y, a in results:
        assert y.equal(results[0][0]) and a.equal(results[0][1])


def test_leading_dimensions_stay(any_backend):
    """Rows of any shape give what the same rows give one after another."""
    x, a = random(2, 3, 20), random(2, 3, 15, seed=1)
    weight, weight_t = random(15, 20, seed=2), random(20, 15, seed=3)
    index, down_t = torch.arange(0, 15, 2), random(15, 7, seed=4)
    for name, given, others in (
        ("input_sparse", (x,), (weight_t, THRESHOLD)),
        ("input_listed", (x,), (weight_t, index)),
        ("output_sparse", (x,), (weight, index)),
        ("sparse_mlp", (a, x), (weight, down_t, THRESHOLD)),
        ("whole_mlp", (x,), (weight, weight, down_t, "gelu", THRESHOLD)),
    ):
        product = getattr(any_backend, name)
        got, flat = (
            product(*given, *others),
            product(*(row.flatten(0, 1) for row in given), *others),
        )
        if name != "whole_mlp":
            got, flat = (got,), (flat,)
        for one, other in zip(got, flat, strict=True):
            assert one.shape[:-1] == (2, 3) and one.flatten(0, 1).equal(other)
