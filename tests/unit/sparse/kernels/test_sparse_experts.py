"""Sparse experts against those of transformers, in every layout; skipped ones are not read."""

from functools import partial

import pytest
import torch
from families import tiny_model
from sparse_products import assert_close, random
from torch.nn import functional as F

from lmri.anatomy import expert_groups
from lmri.errors import SparseError
from lmri.intervene.experts import run_chosen
from lmri.sparse.kernels.experts import Experts, sparse_experts

N, SIZE, HIDDEN = 4, 24, 10
ZERO = torch.tensor(0.0)


def drawn(**changes):
    arguments = {
        "x": random(HIDDEN),
        "experts": Experts.of(random(N, 2 * SIZE, HIDDEN, seed=1), random(N, HIDDEN, SIZE, seed=2)),
        "ids": torch.tensor([2, 0]),
        "weights": torch.tensor([0.75, 0.5]),
        "threshold": torch.tensor(0.2),
        "activation": F.silu,
    }
    return arguments | changes


def interleaved_rows(pair):
    return torch.stack(pair, dim=2).flatten(1, 2)


def masked(x, experts, ids, weights, threshold, activation):
    y = torch.zeros(HIDDEN)
    for expert, weight in zip(ids.tolist(), weights, strict=True):
        a = activation(experts.gate[expert] @ x)
        limit = threshold.expand(N, SIZE)[expert] if threshold.dim() != 1 else threshold[expert]
        y += weight * ((a * (a.abs() > limit) * (experts.up[expert] @ x)) @ experts.down_t[expert])
    return y


@pytest.mark.parametrize(
    "threshold", [ZERO, torch.tensor(0.2), random(N).abs(), random(N, SIZE).abs()], ids=str
)
def test_it_is_the_masked_mixture(any_backend, threshold):
    arguments = drawn(threshold=threshold)
    assert_close(sparse_experts(any_backend, **arguments), masked(**arguments))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("interleaved", [False, True])
def test_layouts_are_views_where_they_can_be(any_backend, dtype, transposed, interleaved):
    gate, up, down_t = (random(N, SIZE, HIDDEN, seed=seed, dtype=dtype) for seed in (1, 2, 3))
    biases = random(N, SIZE, seed=4), random(N, SIZE, seed=5)
    join = interleaved_rows if interleaved else partial(torch.cat, dim=1)
    gate_up, bias = join((gate, up)), join(biases)
    if transposed:
        gate_up, down = gate_up.transpose(1, 2).contiguous(), down_t
    else:
        down = down_t.transpose(1, 2).contiguous()
    layout = {"transposed": transposed, "interleaved": interleaved}
    experts = Experts.of(gate_up, down, bias, random(N, HIDDEN, seed=6), **layout)
    got = (experts.gate, experts.up, experts.down_t, experts.gate_bias, experts.up_bias)
    for one, expected in zip(got, (gate, up, down_t, *biases), strict=True):
        assert one.equal(expected)
    owned = gate_up.untyped_storage().data_ptr() == experts.up.untyped_storage().data_ptr()
    assert owned == (not transposed and not interleaved)
    assert (down.data_ptr() == experts.down_t.data_ptr()) == transposed
    assert sparse_experts(any_backend, **drawn(experts=experts)).isfinite().all()


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_threshold_zero_is_the_experts_of_transformers(any_backend, family):
    module = next(iter(expert_groups(tiny_model(family)).values()))
    names = ("gate_up_proj", "down_proj", "gate_up_proj_bias", "down_proj_bias")
    tensors = [getattr(module, name, None) for name in names]
    tensors = [None if tensor is None else tensor.detach() for tensor in tensors]
    layout = {"transposed": module.is_transposed, "interleaved": not module.is_concatenated}
    experts = Experts.of(*tensors, **layout)
    rules = {"activation": F.silu}
    if family == "gpt_oss":

        def glu(gate):
            gate = gate.clamp(max=module.limit)
            return gate * torch.sigmoid(gate * module.alpha)

        rules = {"activation": glu, "change_up": lambda u: u.clamp(-module.limit, module.limit) + 1}
    x, ids, weights = random(experts.gate.shape[2]), torch.tensor([3, 1]), torch.tensor([0.7, 0.3])
    with torch.no_grad():
        expected = run_chosen(module, x[None], ids[None], weights[None])[0]
    assert_close(sparse_experts(any_backend, x, experts, ids, weights, ZERO, **rules), expected)


@pytest.mark.parametrize("change_up", [None, lambda u: u.clamp(-1, 1)])
def test_skipped_experts_and_neurons_are_not_read(cpu, reference, change_up):
    arguments = drawn(ids=torch.tensor([2, -1, N, 0]), weights=torch.ones(4), change_up=change_up)
    experts, x = arguments["experts"], arguments["x"]
    clean = sparse_experts(cpu, **arguments)
    for expert in (1, 3):
        for weight in (experts.gate, experts.up, experts.down_t):
            weight[expert] = torch.nan
    assert sparse_experts(reference, **arguments).isfinite().all()
    for expert in (0, 2):
        idle = F.silu(experts.gate[expert] @ x).abs() <= 0.2
        assert idle.any()
        experts.up[expert, idle] = torch.nan
        experts.down_t[expert, idle] = torch.nan
    assert sparse_experts(cpu, **arguments).equal(clean)
    assert sparse_experts(reference, **arguments).isnan().all()


def test_no_expert_gives_nothing(any_backend):
    y = sparse_experts(any_backend, **drawn(ids=torch.tensor([-1, N])))
    assert y.tolist() == [0.0] * HIDDEN


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("x", torch.ones(2, HIDDEN), r"\(2, 10\)"),
        ("ids", torch.tensor([[0]]), r"\(1, 1\)"),
        ("weights", torch.ones(3), r"\(3,\)"),
        ("threshold", torch.ones(SIZE), r"\(24,\)"),
    ],
)
def test_a_wrong_shape_is_named(any_backend, name, value, got):
    with pytest.raises(SparseError, match=f"The '{name}' of sparse experts .*{got}"):
        sparse_experts(any_backend, **drawn(**{name: value}))


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(SparseError, match=r"\(4, 24, 10\).*Got \(4, 10, 24\)"):
        Experts.of(torch.ones(N, 2 * SIZE, HIDDEN), torch.ones(N, SIZE, HIDDEN))
