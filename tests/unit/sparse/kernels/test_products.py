"""Products of the kernels against masked dense ones; what is skipped is not read."""

import pytest
import torch
from sparse_products import WEIGHTS, assert_close, random

from lmri.sparse.kernels import MOST_ROWS

SHAPES = [(1, 1), (3, 5), (16, 16), (37, 65), (64, 1), (200, 131), (130, 4100), (700, 33)]
THRESHOLD = torch.tensor(0.7)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("activations", WEIGHTS)
@pytest.mark.parametrize("rows", [None, *range(1, MOST_ROWS + 1)])
def test_input_sparse_is_the_masked_product(cpu, reference, shape, weights, activations, rows):
    leading = () if rows is None else (rows,)
    x = random(*leading, shape[0], dtype=activations)
    weight_t = random(*shape, seed=1, dtype=weights)
    bias = random(shape[1], seed=2, dtype=weights) if shape[1] % 2 else None
    arguments = (x, weight_t, THRESHOLD, bias)
    assert_close(cpu.input_sparse(*arguments), reference.input_sparse(*arguments))


@pytest.mark.parametrize("outputs", [5, 32, 200])
def test_sums_are_rounded_as_torch_rounds(cpu, outputs):
    """To the nearest, ties to even; infinite sums and those that are no number stay so."""
    x = torch.tensor([1.0, 2.0**-9, 2.0**-8, 3 * 2.0**-9, 1e38, -1.0]).bfloat16()
    weight_t = torch.randint(
        -1, 2, (6, outputs), generator=torch.Generator().manual_seed(7)
    ).float()
    weight_t[0] = torch.tensor([1.0, -1.0, 3.0, torch.inf, -torch.inf]).repeat(outputs // 5 + 1)[
        :outputs
    ]
    weight_t[5, 3::7] = torch.inf
    weight_t = weight_t.bfloat16()
    zero = torch.tensor(0.0)
    sums = cpu.input_sparse(x.float(), weight_t, zero)
    assert sums.isnan().any() and sums.isinf().any()
    got = cpu.input_sparse(x, weight_t, zero)
    assert got.dtype is torch.bfloat16
    torch.testing.assert_close(got, sums.bfloat16(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("activations", WEIGHTS)
@pytest.mark.parametrize("rows", [None, 1, 2, 5, 8])
def test_output_sparse_is_the_masked_product(cpu, reference, shape, weights, activations, rows):
    leading = () if rows is None else (rows,)
    x = random(*leading, shape[0], dtype=activations)
    weight = random(shape[1], shape[0], seed=1, dtype=weights)
    bias = random(shape[1], seed=2, dtype=weights) if shape[1] % 2 else None
    index = random(shape[1], seed=3).gt(0).nonzero().squeeze(1)
    arguments = (x, weight, index, bias)
    got = cpu.output_sparse(*arguments)
    assert_close(got, reference.output_sparse(*arguments))
    assert got[..., random(shape[1], seed=3) <= 0].eq(0).all()


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("active", [0, 1, 3, 4, 5, 8, 9, 129, 300])
def test_any_number_of_active_channels(cpu, reference, weights, active):
    x = torch.zeros(300)
    chosen = torch.randperm(300, generator=torch.Generator().manual_seed(4))[:active]
    x[chosen] = random(active, seed=5).abs() + 0.1
    weight_t = random(300, 50, seed=1, dtype=weights)
    zero = torch.tensor(0.0)
    got = cpu.input_sparse(x, weight_t, zero)
    assert_close(got, reference.input_sparse(x, weight_t, zero))
    if active == 0:
        assert got.eq(0).all()
    if active == 1:
        assert got.equal(x[chosen] * weight_t[chosen[0]].float())


@pytest.mark.parametrize("rows", [None, 3])
def test_each_channel_may_have_its_own_threshold(cpu, reference, rows):
    x = random(*(() if rows is None else (rows,)), 90)
    thresholds = random(90, seed=6).abs()
    weight_t = random(90, 40, seed=1)
    expected = torch.where(x.abs() > thresholds, x, 0) @ weight_t
    assert_close(cpu.input_sparse(x, weight_t, thresholds), expected)
    assert_close(reference.input_sparse(x, weight_t, thresholds), expected)


def test_a_value_equal_to_the_threshold_is_skipped(any_backend):
    x = torch.tensor([0.5, -0.5, 0.5000001, -0.5000001] * 9)
    y = any_backend.input_sparse(x, torch.eye(36), torch.tensor(0.5))
    assert y.tolist() == [0.0, 0.0, x[2].item(), x[3].item()] * 9


def test_threshold_zero_is_the_dense_product(any_backend):
    x, weight_t = random(200), random(200, 77, seed=1)
    assert_close(any_backend.input_sparse(x, weight_t, torch.tensor(0.0)), x @ weight_t)


def test_the_kth_value_leaves_the_exact_number_of_channels(cpu):
    x = random(1000)
    threshold = x.abs().kthvalue(650).values
    assert cpu.input_sparse(x, torch.eye(1000), threshold).count_nonzero() == 350


@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_of_a_skipped_channel_are_not_read(cpu, reference, weights):
    x = random(4, 150)
    skipped = x.abs() <= THRESHOLD
    for row in range(4):
        # Skipped by this row, active in others: each row has to skip on its own.
        weight_t = random(150, 60, seed=1, dtype=weights)
        clean = cpu.input_sparse(x, weight_t, THRESHOLD)[row]
        weight_t[skipped[row]] = torch.nan
        assert cpu.input_sparse(x, weight_t, THRESHOLD)[row].equal(clean)
        assert cpu.input_sparse(x[row], weight_t, THRESHOLD).isfinite().all()
        assert reference.input_sparse(x, weight_t, THRESHOLD)[row].isnan().all()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_of_an_output_that_is_not_named_are_not_read(cpu, reference, weights):
    x, index = random(50), torch.tensor([0, 3, 7, 8, 21])
    weight = random(22, 50, seed=1, dtype=weights)
    weight[[row for row in range(22) if row not in index]] = torch.nan
    assert cpu.output_sparse(x, weight, index).isfinite().all()
    assert reference.output_sparse(x, weight, index).isnan().sum() == 17


def test_a_value_that_is_not_a_number_shows(any_backend):
    x = torch.zeros(40)
    x[17] = torch.nan
    y = any_backend.input_sparse(x, torch.ones(40, 3), torch.tensor(1e9))
    assert y.isnan().all()


@pytest.mark.parametrize("rows", [None, 5])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_bits_do_not_depend_on_threads(cpu, weights, rows):
    x = random(*(() if rows is None else (rows,)), 3000)
    weight_t, weight = random(3000, 300, dtype=weights), random(300, 3000, dtype=weights)
    index = torch.arange(0, 300, 2)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(
                (cpu.input_sparse(x, weight_t, THRESHOLD), cpu.output_sparse(x, weight, index))
            )
    finally:
        torch.set_num_threads(before)
    assert all(
        one.equal(other)
        for pair in results[1:]
        for one, other in zip(results[0], pair, strict=True)
    )


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("active", [100, 200, 400, 1500])  # 1, 2, 4 and 16 parts of the sums
def test_threads_that_take_over_from_others_change_no_bit(cpu, weights, active):
    x = random(1500).abs() + 1.0
    x[active:] = 0.0
    weight_t = random(1500, 4096, dtype=weights)
    expected, before = None, torch.get_num_threads()
    try:
        for turn in range(40):
            torch.set_num_threads((1, 2, 3, 8, 16)[turn % 5])
            got = cpu.input_sparse(x, weight_t, THRESHOLD)
            expected = got if expected is None else expected
            assert got.equal(expected)
    finally:
        torch.set_num_threads(before)


def test_operators_can_be_traced(cpu):
    x, weight_t = random(2, 30), random(30, 20)
    traced = torch.compile(
        lambda x: cpu.input_sparse(x, weight_t, THRESHOLD) + 1, backend="eager", fullgraph=True
    )
    assert traced(x).equal(cpu.input_sparse(x, weight_t, THRESHOLD) + 1)


def test_operators_are_registered_with_torch(cpu):
    x, weight_t = random(2, 30), random(30, 20)
    weight, index = weight_t.T.contiguous(), torch.tensor([1, 4])
    checks = ("test_schema", "test_faketensor")
    for name, arguments in {
        "input_sparse": (x, weight_t, THRESHOLD, None),
        "input_listed": (x, weight_t, index, random(20)),
        "output_sparse": (x[0], weight, index, random(20)),
        "sparse_mlp": (random(2, 20), x, weight, random(20, 9), THRESHOLD, None, random(9)),
        "whole_mlp": (x, *(random(9, 30),) * 2, random(9, 5), "silu", THRESHOLD, *(None,) * 3),
        "rms_norm": (x, random(30), 1e-6),
        "rotary": (random(2, 4, 3, 6), random(2, 1, 3, 6), random(1, 3, 6), random(1, 3, 6)),
        "attend": (random(2, 4, 1, 6), random(2, 2, 5, 6), random(2, 2, 5, 3), 0.4),
        "append": (
            *(random(2, 3, 9, 4), random(2, 3, 8, 5), random(2, 3, 2, 4), random(2, 3, 2, 5)),
            4,
        ),
        "attention_inputs": (
            *(random(2, 3, 8), random(8), 1e-6),
            *([random(8, 12), random(8, 6), random(8, 6)], [THRESHOLD] * 3),
            *([random(12), None, random(6)], random(1, 3, 6), random(1, 3, 6)),
        ),
        "attention_added": (
            *(random(2, 1, 8), random(2, 4, 1, 6), random(2, 2, 5, 6), random(2, 2, 5, 3)),
            *(0.4, random(12, 8), THRESHOLD, random(8), random(8), 1e-6),
        ),
        "transposed": (weight,),
    }.items():
        operator = getattr(torch.ops.lmri_sparse, name)
        torch.library.opcheck(operator, arguments, test_utils=checks)
