"""What the products refuse, whichever backend computes them."""

import pytest
import torch

from lmri.errors import SparseError
from lmri.sparse.kernels import backend
from lmri.sparse.kernels.checks import _check_device

INPUT = {
    "x": torch.ones(6),
    "weight_t": torch.ones(6, 4),
    "threshold": torch.tensor(0.0),
    "bias": torch.ones(4),
}
OUTPUT = {
    "x": torch.ones(6),
    "weight": torch.ones(4, 6),
    "index": torch.tensor([0, 2]),
    "bias": torch.ones(4),
}
MLP = {
    "a": torch.ones(2, 5),
    "x": torch.ones(2, 6),
    "weight_up": torch.ones(5, 6),
    "weight_down_t": torch.ones(5, 4),
    "threshold": torch.tensor(0.0),
    "bias_up": torch.ones(5),
    "bias_down": torch.ones(4),
}
WHOLE = {
    "x": torch.ones(2, 6),
    "weight_in": torch.ones(5, 6),
    "weight_up": torch.ones(5, 6),
    "weight_down_t": torch.ones(5, 4),
    "activation": "relu",
    "threshold": torch.tensor(0.0),
    "bias_in": torch.ones(5),
    "bias_up": torch.ones(5),
    "bias_down": torch.ones(4),
}
INDICES = [
    (torch.tensor([0, 2], dtype=torch.int32), "torch.int32"),
    (torch.tensor([[0]]), r"\(1, 1\)"),
    (torch.tensor([0, 6]), r"\[0, 6\]"),
    (torch.tensor([-1, 2]), r"\[-1, 2\]"),
    (torch.tensor([2, 0]), r"\[2, 0\]"),
    (torch.tensor([1, 1]), r"\[1, 1\]"),
    (torch.ones(2, dtype=torch.int64, device="meta"), "meta"),
]


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("x", torch.ones(5), r"\(5,\)"),
        ("x", torch.ones(9, 6), r"\(9, 6\)"),
        ("x", torch.ones(3, 3, 6), r"\(3, 3, 6\)"),
        ("x", torch.ones(0, 6), r"\(0, 6\)"),
        ("x", torch.tensor(1.0), r"\(\)"),
        ("x", torch.ones(6, dtype=torch.float16), "torch.float16"),
        ("x", torch.ones(6, device="meta"), "meta"),
        ("weight_t", torch.ones(6, 4, dtype=torch.float64), "torch.float64"),
        ("weight_t", torch.ones(4, 6).T, "strides"),
        ("weight_t", torch.ones(6), r"\(6,\)"),
        ("weight_t", torch.ones(6, 4, device="meta"), "meta"),
        ("threshold", torch.ones(1), r"\(1,\)"),
        ("threshold", torch.ones(6, dtype=torch.bfloat16), "torch.bfloat16"),
        ("threshold", torch.ones((), device="meta"), "meta"),
        ("bias", torch.ones(6), r"\(6,\)"),
        ("bias", torch.ones(4, dtype=torch.int64), "torch.int64"),
    ],
)
def test_input_sparse_names_what_is_wrong(any_backend, name, value, got):
    with pytest.raises(SparseError, match=f"The '{name}' of an input-sparse product .*{got}"):
        any_backend.input_sparse(**INPUT | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("x", torch.ones(4), r"\(4,\)"),
        ("weight", torch.ones(6, 4).T, "strides"),
        *(("index", value, got) for value, got in INDICES),
    ],
)
def test_output_sparse_names_what_is_wrong(any_backend, name, value, got):
    with pytest.raises(SparseError, match=f"The '{name}' of an output-sparse product .*{got}"):
        any_backend.output_sparse(**OUTPUT | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("x", torch.ones(5), r"\(5,\)"),
        ("weight_t", torch.ones(6, 4).half(), "torch.float16"),
        ("bias", torch.ones(6), r"\(6,\)"),
        *(("index", value, got) for value, got in INDICES),
    ],
)
def test_input_listed_names_what_is_wrong(any_backend, name, value, got):
    arguments = {key: kept for key, kept in INPUT.items() if key != "threshold"}
    arguments |= {"index": torch.tensor([0, 2]), name: value}
    with pytest.raises(SparseError, match=f"The '{name}' of an input-listed product .*{got}"):
        any_backend.input_listed(**arguments)


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("a", torch.ones(2, 4), r"\(2, 4\)"),
        ("a", torch.ones(2, 5, dtype=torch.int64), "torch.int64"),
        ("x", torch.ones(2, 5), r"\(2, 5\)"),
        ("x", torch.ones(3, 6), r"leading shape \(2,\), as 'a'\. Got \(3, 6\)"),
        ("x", None, "None"),
        ("weight_up", None, r"left out"),
        ("weight_up", torch.ones(4, 6), r"\(4, 6\)"),
        ("weight_up", torch.ones(5, 6).bfloat16(), "torch.bfloat16"),
        ("weight_up", torch.ones(6, 5).T, "strides"),
        ("weight_down_t", torch.ones(4, 5).T, "strides"),
        ("weight_down_t", torch.ones(5, 4, device="meta"), "meta"),
        ("threshold", torch.ones(6), r"\(6,\)"),
        ("bias_up", torch.ones(4), r"\(4,\)"),
        ("bias_down", torch.ones(5), r"\(5,\)"),
    ],
)
def test_sparse_mlp_names_what_is_wrong(any_backend, name, value, got):
    named = "x" if (name, value) == ("weight_up", None) else name
    with pytest.raises(SparseError, match=f"The '{named}' of a sparse MLP .*{got}"):
        any_backend.sparse_mlp(**MLP | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("x", torch.ones(2, 5), r"\(2, 5\)"),
        ("x", torch.ones(3, 3, 6), r"\(3, 3, 6\)"),
        ("weight_in", torch.ones(4, 6), r"\(4, 6\)"),
        ("weight_in", torch.ones(6, 5).T, "strides"),
        ("weight_in", torch.ones(5, 6).bfloat16(), "torch.bfloat16"),
        ("weight_up", torch.ones(5, 7), r"\(5, 7\)"),
        ("weight_up", torch.ones(5, 6).bfloat16(), "torch.bfloat16"),
        ("weight_up", None, "left out"),
        ("weight_down_t", torch.ones(4, 5).T, "strides"),
        ("weight_down_t", torch.ones(5), r"\(5,\)"),
        ("activation", "tanh", "'tanh'"),
        ("threshold", torch.ones(6), r"\(6,\)"),
        ("bias_in", torch.ones(6), r"\(6,\)"),
        ("bias_up", torch.ones(4), r"\(4,\)"),
        ("bias_down", torch.ones(5), r"\(5,\)"),
    ],
)
def test_whole_mlp_names_what_is_wrong(any_backend, name, value, got):
    named = "bias_up" if (name, value) == ("weight_up", None) else name
    with pytest.raises(SparseError, match=f"The '{named}' of a whole MLP .*{got}"):
        any_backend.whole_mlp(**WHOLE | {name: value})
    if any_backend.name == "cpu":  # and so does what keeps memory safe
        with pytest.raises((RuntimeError, IndexError)):
            torch.ops.lmri_sparse.whole_mlp(*(WHOLE | {name: value}).values())


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("x", torch.ones(2, 5), r"\(2, 5\)"),
        ("x", torch.tensor(1.0), r"\(\)"),
        ("x", torch.ones(2, 6).bfloat16(), "torch.bfloat16"),
        ("x", torch.ones(2, 6).half(), "torch.float16"),
        ("weight", torch.ones(0), r"\(0,\)"),
        ("weight", torch.ones(12)[::2], "strides"),
        ("weight", torch.ones(6, device="meta"), "meta"),
    ],
)
def test_a_norm_names_what_is_wrong(cpu, name, value, got):
    arguments = {"x": torch.ones(2, 6), "weight": torch.ones(6), "epsilon": 1e-6}
    assert cpu.rms_norm(**arguments).shape == (2, 6)
    with pytest.raises(SparseError, match=f"The '{name}' of a norm .*{got}"):
        cpu.rms_norm(**arguments | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("q", torch.ones(2, 3, 6), r"\(2, 3, 6\)"),
        ("k", torch.ones(2, 1, 3, 5), r"\(2, 1, 3, 5\)"),
        ("k", torch.ones(2, 1, 3, 6).half(), "torch.float16"),
        ("cos", torch.ones(3, 3, 6), r"\(3, 3, 6\)"),
        ("sin", torch.ones(1, 3, 6), r"\(1, 3, 6\)"),
        ("sin", torch.ones(2, 3, 6).bfloat16(), "torch.bfloat16"),
        ("cos", torch.ones(2, 3, 6, device="meta"), "meta"),
    ],
)
def test_a_rotary_embedding_names_what_is_wrong(cpu, name, value, got):
    arguments = {"q": torch.ones(2, 4, 3, 6), "k": torch.ones(2, 1, 3, 6)}
    arguments |= {"cos": torch.ones(2, 3, 6), "sin": torch.ones(2, 3, 6)}
    assert [turned.shape[1] for turned in cpu.rotary(**arguments)] == [4, 1]
    with pytest.raises(SparseError, match=f"The '{name}' of a rotary embedding .*{got}"):
        cpu.rotary(**arguments | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("q", torch.ones(2, 6, 2, 4), r"\(2, 6, 2, 4\)"),
        ("q", torch.ones(6, 1, 4), r"\(6, 1, 4\)"),
        ("q", torch.ones(2, 6, 1, 4).half(), "torch.float16"),
        ("q", torch.ones(2, 6, 1, 4, device="meta"), "meta"),
        ("k", torch.ones(2, 4, 5, 4), r"\(2, 4, 5, 4\)"),
        ("k", torch.ones(1, 3, 5, 4), r"\(1, 3, 5, 4\)"),
        ("k", torch.ones(2, 3, 5, 3), r"\(2, 3, 5, 3\)"),
        ("k", torch.ones(2, 3, 0, 4), r"\(2, 3, 0, 4\)"),
        ("k", torch.ones(2, 3, 5, 4, device="meta"), "meta"),
        ("v", torch.ones(2, 3, 4, 2), r"\(2, 3, 4, 2\)"),
        ("v", torch.ones(2, 6, 5, 2), r"\(2, 6, 5, 2\)"),
        ("v", torch.ones(2, 3, 5, 2).bfloat16(), "torch.bfloat16"),
    ],
)
def test_attention_names_what_is_wrong(cpu, name, value, got):
    arguments = {"q": torch.ones(2, 6, 1, 4), "k": torch.ones(2, 3, 5, 4)}
    arguments |= {"v": torch.ones(2, 3, 5, 2), "scaling": 0.5}
    assert cpu.attend(**arguments).shape == (2, 1, 6, 2)
    with pytest.raises(SparseError, match=f"The '{name}' of attention of one token .*{got}"):
        cpu.attend(**arguments | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("keys", torch.zeros(3, 9, 4), r"\(3, 9, 4\)"),
        ("keys", torch.zeros(2, 3, 9, 4).half(), "torch.float16"),
        ("values", torch.zeros(2, 3, 9, 5, device="meta"), "meta"),
        ("new_keys", torch.ones(2, 3, 4), r"\(2, 3, 1, 4\). Got \(2, 3, 4\)"),
        ("new_keys", torch.ones(1, 3, 2, 4), r"\(1, 3, 2, 4\)"),
        ("new_keys", torch.ones(2, 3, 2, 4).bfloat16(), "torch.bfloat16"),
        ("new_values", torch.ones(2, 3, 2, 4), r"\(2, 3, 2, 5\). Got \(2, 3, 2, 4\)"),
        ("new_values", torch.ones(2, 3, 1, 5), r"\(2, 3, 1, 5\)"),
        ("filled", 8, "2 tokens of 9. Got 8"),
        ("filled", -1, "-1"),
    ],
)
def test_a_cache_names_what_is_wrong_and_keeps_what_it_holds(cpu, name, value, got):
    memory = {"keys": torch.zeros(2, 3, 9, 4), "values": torch.zeros(2, 3, 9, 5)}
    added = {"new_keys": torch.ones(2, 3, 2, 4), "new_values": torch.ones(2, 3, 2, 5)}
    with pytest.raises(SparseError, match=f"The '{name}' of a cache .*{got}"):
        cpu.append(**memory | added | {"filled": 7} | {name: value})
    assert not any(held.any() for held in memory.values())
    cpu.append(**memory, **added, filled=7)
    assert all(held.sum() == held[:, :, 7:].numel() for held in memory.values())


THRESHOLD = torch.tensor(0.5)

ATTENTION_INPUTS = {
    "x": torch.ones(2, 1, 6),
    "norm": torch.ones(6),
    "epsilon": 1e-6,
    "weights_t": [torch.ones(6, 8), torch.ones(6, 4), torch.ones(6, 4)],
    "thresholds": [THRESHOLD] * 3,
    "biases": [None, torch.ones(4), None],
    "cos": torch.ones(1, 1, 4),
    "sin": torch.ones(1, 1, 4),
}


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("x", torch.ones(2, 6), r"'x' of queries, keys and values .*Got \(2, 6\)"),
        ("x", torch.ones(9, 1, 6), r"'x' of an input-sparse product .*\(9, 1, 6\)"),
        ("x", torch.ones(2, 1, 6).bfloat16(), "'x' of a norm .*torch.bfloat16"),
        ("norm", torch.ones(5), r"'x' of a norm .*\(..., 5\)"),
        ("weights_t", [torch.ones(6, 8)] * 2, "'weights_t' of queries, .* be three. Got 2"),
        ("weights_t", [torch.ones(6, 6)] * 3, "'weights_t' of queries, .* heads of 4"),
        ("weights_t", [torch.ones(8, 6).T] * 3, "'weight_t' of an input-sparse .*strides"),
        ("thresholds", [THRESHOLD] * 4, "'thresholds' of queries, .* be three. Got 4"),
        ("thresholds", [torch.ones(5)] * 3, r"'threshold' of an input-sparse .*\(5,\)"),
        ("biases", [None], "'biases' of queries, .* be three. Got 1"),
        ("biases", [torch.ones(3)] * 3, r"'bias' of an input-sparse .*\(3,\)"),
        ("cos", torch.ones(1, 4), r"'cos' of queries, keys and values .*\(1, 4\)"),
        ("cos", torch.ones(1, 2, 4), r"'cos' of a rotary embedding .*\(1, 2, 4\)"),
        ("sin", torch.ones(1, 1, 2), r"'sin' of a rotary embedding .*\(1, 1, 2\)"),
    ],
)
def test_inputs_of_attention_name_what_is_wrong(cpu, name, value, refused):
    shapes = [made.shape[1] for made in cpu.attention_inputs(**ATTENTION_INPUTS)]
    assert shapes == [2, 1, 1]
    with pytest.raises(SparseError, match=f"The {refused}"):
        cpu.attention_inputs(**ATTENTION_INPUTS | {name: value})


ADDED = {
    "residual": torch.ones(2, 1, 5),
    "q": torch.ones(2, 6, 1, 4),
    "k": torch.ones(2, 3, 5, 4),
    "v": torch.ones(2, 3, 5, 2),
    "scaling": 0.5,
    "weight_t": torch.ones(12, 5),
    "threshold": THRESHOLD,
    "bias": None,
    "norm": torch.ones(5),
    "epsilon": 1e-6,
}


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("residual", torch.ones(1, 1, 5), r"'residual' of what attention adds .*\(1, 1, 5\)"),
        ("residual", torch.ones(2, 1, 5).bfloat16(), "'residual' of what .*torch.bfloat16"),
        ("residual", torch.ones(2, 1, 5, device="meta"), "'residual' of what .*meta"),
        ("k", torch.ones(1, 3, 5, 4), r"'k' of attention of one token .*\(1, 3, 5, 4\)"),
        ("weight_t", torch.ones(11, 5), r"'x' of an input-sparse product .*\(2, 1, 12\)"),
        ("threshold", torch.ones(5), r"'threshold' of an input-sparse product .*\(5,\)"),
        ("bias", torch.ones(4), r"'bias' of an input-sparse product .*\(4,\)"),
        ("norm", torch.ones(4), r"'x' of a norm .*\(..., 4\)"),
    ],
)
def test_what_attention_adds_names_what_is_wrong(cpu, name, value, refused):
    assert all(made.shape == (2, 1, 5) for made in cpu.attention_added(**ADDED))
    with pytest.raises(SparseError, match=f"The {refused}"):
        cpu.attention_added(**ADDED | {name: value})


def test_attention_to_too_many_keys_is_refused(cpu):
    keys = torch.ones(1, 1, 1, 1).expand(1, 1, 2**31, 1)
    with pytest.raises(SparseError, match=r"The 'k' .* have less than 2147483647 keys\. Got 21474"):
        cpu.attend(torch.ones(1, 1, 1, 1), keys, keys, 1.0)


@pytest.mark.parametrize(
    ("weight", "got"),
    [
        (torch.ones(3), r"\(3,\)"),
        (torch.ones(3, 2).half(), "torch.float16"),
        (torch.ones(3, 2, device="meta"), "meta"),
    ],
)
def test_transposed_names_what_is_wrong(any_backend, weight, got):
    with pytest.raises(SparseError, match=f"The 'weight' of a transposed copy .*{got}"):
        any_backend.transposed(weight)


def test_what_is_not_wrong_is_computed(any_backend):
    assert any_backend.sparse_mlp(**MLP).tolist() == [[36.0] * 4] * 2
    y, a = any_backend.whole_mlp(**WHOLE)
    assert y.tolist() == [[5 * 7 * 7 + 1.0] * 4] * 2 and a.tolist() == [[7.0] * 5] * 2
    assert any_backend.input_sparse(**INPUT).tolist() == [7.0] * 4
    assert any_backend.output_sparse(**OUTPUT).tolist() == [7.0, 0.0, 7.0, 0.0]
    nothing = torch.tensor([], dtype=torch.int64)
    assert any_backend.output_sparse(**OUTPUT | {"index": nothing}).tolist() == [0.0] * 4


def test_operators_stay_in_their_memory_without_the_checks_of_python(cpu):
    operators = torch.ops.lmri_sparse
    for index in ([0, 4], [-1], [1, 1]):
        with pytest.raises(IndexError, match="ascending"):
            operators.output_sparse(OUTPUT["x"], OUTPUT["weight"], torch.tensor(index), None)
    with pytest.raises(RuntimeError, match="contiguous"):
        operators.input_sparse(INPUT["x"], torch.ones(4, 6).T, INPUT["threshold"], None)
    for x in (torch.ones(5), torch.ones(9, 6), torch.ones(0, 6), torch.ones(6).half()):
        with pytest.raises(RuntimeError, match="1 to 8 rows of 6 values, float32 or bfloat16"):
            operators.input_sparse(x, INPUT["weight_t"], INPUT["threshold"], None)
    with pytest.raises(RuntimeError, match="one value or 6"):
        operators.input_sparse(INPUT["x"], INPUT["weight_t"], torch.ones(5), None)
    with pytest.raises(IndexError, match="ascending"):
        operators.input_listed(INPUT["x"], INPUT["weight_t"], torch.tensor([6]), None)
    for name, value in (("weight_up", torch.ones(4, 6)), ("x", torch.ones(3, 6))):
        with pytest.raises(RuntimeError, match=r"5 neurons|leading shape"):
            operators.sparse_mlp(*(MLP | {name: value}).values())
    for name, value, said in (
        ("weight_in", torch.ones(4, 6), "5 neurons"),
        ("weight_up", torch.ones(5, 7), "5 neurons"),
        ("weight_up", torch.ones(6, 5).T, "contiguous"),
        ("weight_up", None, "a bias must have weights"),
        ("activation", "tanh", "not tanh"),
    ):
        with pytest.raises(RuntimeError, match=said):
            operators.whole_mlp(*(WHOLE | {name: value}).values())


def test_an_unknown_backend_is_named():
    with pytest.raises(SparseError, match=r"'cpu', 'reference', 'triton'\. Got 'tpu'"):
        backend("tpu")


def test_all_tensors_have_to_be_on_the_one_gpu_of_the_weights():
    """Of several; without any, tensors that only tell their device stand in."""

    class Elsewhere:
        def __init__(self, device):
            self.device = torch.device(device)

    _check_device(Elsewhere("cuda:1"), "x", "a product", "cuda")
    _check_device(Elsewhere("cuda:1"), "x", "a product", "cuda:1")
    with pytest.raises(SparseError, match=r"'x' of a product must .* cuda:1\. Got cuda:0"):
        _check_device(Elsewhere("cuda:0"), "x", "a product", "cuda:1")
