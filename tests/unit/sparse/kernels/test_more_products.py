"""Listed channels and gated MLPs against masked dense products; what is skipped is not read."""

import pytest
import torch
from sparse_products import WEIGHTS, assert_close, random

SHAPES = [(1, 1, 1), (5, 3, 7), (33, 16, 65), (300, 40, 130)]  # neurons, inputs, outputs
THRESHOLD = torch.tensor(0.7)


def leading(rows):
    return () if rows is None else (rows,)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("activations", WEIGHTS)
@pytest.mark.parametrize("rows", [None, 3])
@pytest.mark.parametrize("listed", [0, 1, 3, 4, 5, 129, 300])
def test_input_listed_is_the_masked_product(cpu, reference, weights, activations, rows, listed):
    x = random(*leading(rows), 300, dtype=activations)
    weight_t, bias = random(300, 70, seed=1, dtype=weights), random(70, seed=2)
    index = torch.randperm(300, generator=torch.Generator().manual_seed(3))[:listed].sort().values
    arguments = (x, weight_t, index, bias)
    got = cpu.input_listed(*arguments)
    assert_close(got, reference.input_listed(*arguments))
    mask = torch.zeros(300).index_fill(0, index, 1)
    assert_close(got, ((x.float() * mask) @ weight_t.float() + bias).to(got.dtype))


@pytest.mark.parametrize("rows", [None, 2])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_channels_that_are_not_listed_are_not_read(cpu, reference, weights, rows):
    x, index = random(*leading(rows), 150), torch.arange(1, 150, 7)
    weight_t = random(150, 60, seed=1, dtype=weights)
    clean = cpu.input_listed(x, weight_t, index)
    others = torch.ones(150, dtype=torch.bool).index_fill(0, index, False)
    weight_t[others], x[..., others] = torch.nan, torch.nan
    assert cpu.input_listed(x, weight_t, index).equal(clean)
    assert reference.input_listed(x, weight_t, index).isnan().all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("activations", WEIGHTS)
@pytest.mark.parametrize("rows", [None, 3, 8])
@pytest.mark.parametrize("biased", [False, True])
def test_sparse_mlp_is_the_masked_mlp(cpu, reference, shape, weights, activations, rows, biased):
    neurons, inputs, outputs = shape
    a = random(*leading(rows), neurons, dtype=activations)
    x = random(*leading(rows), inputs, seed=1, dtype=activations)
    up = random(neurons, inputs, seed=2, dtype=weights)
    down_t = random(neurons, outputs, seed=3, dtype=weights)
    biases = [random(neurons, seed=4), random(outputs, seed=5)] if biased else [None, None]
    arguments = (a, x, up, down_t, THRESHOLD, *biases)
    got = cpu.sparse_mlp(*arguments)
    assert_close(got, reference.sparse_mlp(*arguments))
    active = a.float() * (a.abs() > THRESHOLD)
    bias_up, bias_down = (0, 0) if not biased else biases
    neuron = active * (x.float() @ up.float().T + bias_up)
    assert_close(got, (neuron @ down_t.float() + bias_down).to(got.dtype))


def test_threshold_zero_is_the_dense_mlp(any_backend):
    a, x = random(90), random(40, seed=1)
    up, down_t = random(90, 40, seed=2), random(90, 33, seed=3)
    got = any_backend.sparse_mlp(a, x, up, down_t, torch.tensor(0.0))
    assert_close(got, (a * (up @ x)) @ down_t)


@pytest.mark.parametrize("rows", [None, 4])
def test_without_an_up_projection_it_is_the_input_sparse_product(any_backend, rows):
    a, down_t, bias = random(*leading(rows), 90), random(90, 33, seed=3), random(33, seed=4)
    got = any_backend.sparse_mlp(a, None, None, down_t, THRESHOLD, bias_down=bias)
    assert got.equal(any_backend.input_sparse(a, down_t, THRESHOLD, bias))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_neither_weights_of_a_skipped_neuron_are_read(cpu, reference, weights):
    a, x = random(3, 200), random(3, 50, seed=1)
    up, down_t = random(200, 50, seed=2, dtype=weights), random(200, 60, seed=3, dtype=weights)
    thresholds = random(200, seed=4).abs()
    clean = cpu.sparse_mlp(a, x, up, down_t, thresholds)
    for row in range(3):
        skipped = a[row].abs() <= thresholds
        for weight in (up, down_t):
            planted = weight.clone()
            planted[skipped] = torch.nan
            both = (planted, down_t) if weight is up else (up, planted)
            assert cpu.sparse_mlp(a, x, *both, thresholds)[row].equal(clean[row])
            assert reference.sparse_mlp(a, x, *both, thresholds)[row].isnan().all()


@pytest.mark.parametrize("rows", [None, 5])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_bits_of_a_sparse_mlp_do_not_depend_on_threads(cpu, weights, rows):
    a, x = random(*leading(rows), 3000), random(*leading(rows), 200, seed=1)
    up, down_t = random(3000, 200, dtype=weights), random(3000, 300, dtype=weights)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(cpu.sparse_mlp(a, x, up, down_t, THRESHOLD))
    finally:
        torch.set_num_threads(before)
    assert all(result.equal(results[0]) for result in results)


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (3, 0), (1100, 600), (3, 600, 400)], ids=str)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_transposed_copy_is_one(any_backend, shape, weights):
    weight = random(*shape, dtype=weights)
    copy = any_backend.transposed(weight)
    assert copy.equal(weight.mT) and copy.is_contiguous()
    assert copy.dtype is weights
    assert copy.numel() == 0 or copy.data_ptr() != weight.data_ptr()
    copy.fill_(0.5)
    assert copy.eq(0.5).all()


def test_copies_in_large_pages_are_given_back(cpu):
    weight = random(1024, 2048)  # 8 MiB
    for _ in range(4):
        copy = cpu.transposed(weight)
        kept = copy[3:5]
        del copy
        assert kept.equal(weight.T[3:5])
