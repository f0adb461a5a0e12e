"""What every backend refuses, in the same words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from lmri.checks import quoted
from lmri.errors import SparseError

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": torch.relu,
}
"""Activation functions that kernels know, by name."""

DTYPES = (torch.float32, torch.bfloat16)
"""Of weights, activations and biases. Sums are in float32."""

MOST_ROWS = 8
"""Rows of x in one product. Of more, a dense product costs less."""

MOST_KEYS = 2**31 - 1
"""Keys of attention are fewer."""


def check_transposed(weight: Tensor, device: str) -> None:
    """Raise unless the argument is as :meth:`Backend.transposed` needs it."""
    owner = "a transposed copy"
    if weight.dim() < 2:
        _refuse("weight", owner, "be of two dimensions or more", _shape(weight))
    _check_kind(weight, "weight", owner, device)


def check_input_sparse(
    x: Tensor, weight_t: Tensor, threshold: Tensor, bias: Tensor | None, device: str
) -> None:
    """Raise unless the arguments are as :meth:`Backend.input_sparse` needs them."""
    owner = "an input-sparse product"
    device = _check_weight(weight_t, "weight_t", owner, device)
    n_in, n_out = weight_t.shape
    _check_rows(x, "x", n_in, owner, device)
    _check_threshold(threshold, n_in, owner, device)
    _check_bias(bias, "bias", n_out, owner, device)


def check_input_listed(
    x: Tensor, weight_t: Tensor, index: Tensor, bias: Tensor | None, device: str
) -> None:
    """Raise unless the arguments are as :meth:`Backend.input_listed` needs them."""
    owner = "an input-listed product"
    device = _check_weight(weight_t, "weight_t", owner, device)
    n_in, n_out = weight_t.shape
    _check_rows(x, "x", n_in, owner, device)
    _check_index(index, n_in, owner, device)
    _check_bias(bias, "bias", n_out, owner, device)


def check_output_sparse(
    x: Tensor, weight: Tensor, index: Tensor, bias: Tensor | None, device: str
) -> None:
    """Raise unless the arguments are as :meth:`Backend.output_sparse` needs them."""
    owner = "an output-sparse product"
    device = _check_weight(weight, "weight", owner, device)
    n_out, n_in = weight.shape
    _check_rows(x, "x", n_in, owner, device)
    _check_index(index, n_out, owner, device)
    _check_bias(bias, "bias", n_out, owner, device)


def check_sparse_mlp(
    a: Tensor,
    x: Tensor | None,
    weight_up: Tensor | None,
    weight_down_t: Tensor,
    threshold: Tensor,
    bias_up: Tensor | None,
    bias_down: Tensor | None,
    device: str,
) -> None:
    """Raise unless the arguments are as :meth:`Backend.sparse_mlp` needs them."""
    owner = "a sparse MLP"
    device = _check_weight(weight_down_t, "weight_down_t", owner, device)
    n_neurons, n_out = weight_down_t.shape
    _check_rows(a, "a", n_neurons, owner, device)
    _check_threshold(threshold, n_neurons, owner, device)
    _check_bias(bias_down, "bias_down", n_out, owner, device)
    if weight_up is None:
        for name, value in (("x", x), ("bias_up", bias_up)):
            if value is not None:
                _refuse(name, owner, "be left out where there is no 'weight_up'", _shape(value))
        return
    _check_weight(weight_up, "weight_up", owner, device)
    if len(weight_up) != n_neurons or weight_up.dtype is not weight_down_t.dtype:
        allowed = f"have {n_neurons} rows of {weight_down_t.dtype}, as 'weight_down_t'"
        _refuse("weight_up", owner, allowed, f"{_shape(weight_up)} of {weight_up.dtype}")
    if x is None or x.shape[:-1] != a.shape[:-1]:
        allowed = f"have the leading shape {tuple(a.shape[:-1])}, as 'a'"
        _refuse("x", owner, allowed, None if x is None else _shape(x))
    _check_rows(x, "x", weight_up.shape[1], owner, device)
    _check_bias(bias_up, "bias_up", n_neurons, owner, device)


def check_whole_mlp(
    x: Tensor,
    weight_in: Tensor,
    weight_up: Tensor | None,
    weight_down_t: Tensor,
    activation: str,
    threshold: Tensor,
    bias_in: Tensor | None,
    bias_up: Tensor | None,
    bias_down: Tensor | None,
    device: str,
) -> None:
    """Raise unless the arguments are as :meth:`Backend.whole_mlp` needs them."""
    owner = "a whole MLP"
    device = _check_weight(weight_down_t, "weight_down_t", owner, device)
    n_neurons, n_out = weight_down_t.shape
    shape = n_neurons, weight_in.shape[-1]
    for name, weight in (("weight_in", weight_in), ("weight_up", weight_up)):
        if weight is None:
            continue
        _check_weight(weight, name, owner, device)
        if _shape(weight) != shape or weight.dtype is not weight_down_t.dtype:
            allowed = f"have the shape {shape} and be {weight_down_t.dtype}, as 'weight_down_t'"
            _refuse(name, owner, allowed, f"{_shape(weight)} of {weight.dtype}")
    if weight_up is None and bias_up is not None:
        _refuse("bias_up", owner, "be left out where there is no 'weight_up'", _shape(bias_up))
    if activation not in ACTIVATIONS:
        _refuse("activation", owner, f"be one of {quoted(ACTIVATIONS)}", repr(activation))
    _check_rows(x, "x", weight_in.shape[1], owner, device)
    _check_threshold(threshold, n_neurons, owner, device)
    _check_bias(bias_in, "bias_in", n_neurons, owner, device)
    _check_bias(bias_up, "bias_up", n_neurons, owner, device)
    _check_bias(bias_down, "bias_down", n_out, owner, device)


def check_rms_norm(x: Tensor, weight: Tensor, epsilon: float, device: str) -> None:
    """Raise unless the arguments are as the processor's ``rms_norm`` needs them."""
    owner = "a norm"
    if weight.dim() != 1 or not weight.numel() or not weight.is_contiguous():
        got = f"shape {_shape(weight)} with strides {weight.stride()}"
        _refuse("weight", owner, "be contiguous, of one dimension and not empty", got)
    _check_kind(weight, "weight", owner, device)
    if x.dim() == 0 or x.shape[-1] != len(weight):
        _refuse("x", owner, f"have the shape (..., {len(weight)})", _shape(x))
    _check_kind(x, "x", owner, device)
    if x.dtype is not weight.dtype:
        _refuse("x", owner, f"be {weight.dtype}, as 'weight'", x.dtype)


def check_rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, device: str) -> None:
    """Raise unless the arguments are as the processor's ``rotary`` needs them."""
    owner = "a rotary embedding"
    for name, x in (("q", q), ("k", k)):
        if x.dim() != 4 or x.shape[-1] % 2:
            allowed = "have the shape (batch, heads, tokens, size), of an even size"
            _refuse(name, owner, allowed, _shape(x))
        _check_kind(x, name, owner, device)
        batch, _, *others = x.shape
        for angles, values in (("cos", cos), ("sin", sin)):
            if _shape(values) not in ((batch, *others), (1, *others)) or values.shape != cos.shape:
                allowed = f"have the shape {(batch, *others)} or {(1, *others)}, both the same"
                _refuse(angles, owner, allowed, _shape(values))
            if values.dtype is not x.dtype:
                _refuse(angles, owner, f"be {x.dtype}, as '{name}'", values.dtype)
            _check_device(values, angles, owner, device)


def check_attend(q: Tensor, k: Tensor, v: Tensor, scaling: float, device: str) -> None:
    """Raise unless the arguments are as the processor's ``attend`` needs them."""
    owner = "attention of one token"
    if q.dim() != 4 or q.shape[2] != 1 or not q.numel():
        _refuse("q", owner, "have the shape (batch, heads, 1, size), none of them 0", _shape(q))
    _check_kind(q, "q", owner, device)
    batch, heads, _, size = q.shape
    for name, x in (("k", k), ("v", v)):
        if x.dim() != 4 or len(x) != batch or not x.numel() or heads % x.shape[1]:
            allowed = f"have the shape ({batch}, a divisor of {heads}, keys, size), none of them 0"
            _refuse(name, owner, allowed, _shape(x))
        if x.dtype is not q.dtype:
            _refuse(name, owner, f"be {q.dtype}, as 'q'", x.dtype)
        _check_kind(x, name, owner, device)
    if k.shape[3] != size:
        _refuse("k", owner, f"have {size} channels, as 'q'", _shape(k))
    if v.shape[1:3] != k.shape[1:3]:
        _refuse("v", owner, f"have as many heads and keys as 'k', {_shape(k)[1:3]}", _shape(v))
    if k.shape[2] >= MOST_KEYS:
        _refuse("k", owner, f"have less than {MOST_KEYS} keys", k.shape[2])


def check_append(
    keys: Tensor,
    values: Tensor,
    new_keys: Tensor,
    new_values: Tensor,
    filled: int,
    device: str,
) -> None:
    """Raise unless the arguments are as the processor's ``append`` needs them."""
    owner = "a cache"
    for name, memory, new in (("keys", keys, new_keys), ("values", values, new_values)):
        if memory.dim() != 4:
            _refuse(name, owner, "have the shape (batch, heads, room, size)", _shape(memory))
        _check_kind(memory, name, owner, device)
        batch, heads, room, size = memory.shape
        shape = batch, heads, new_keys.shape[2] if new_keys.dim() == 4 else 1, size
        if _shape(new) != shape:
            _refuse(f"new_{name}", owner, f"have the shape {shape}", _shape(new))
        if new.dtype is not memory.dtype:
            _refuse(f"new_{name}", owner, f"be {memory.dtype}, as '{name}'", new.dtype)
        _check_device(new, f"new_{name}", owner, device)
        if not 0 <= filled <= room - shape[2]:
            _refuse("filled", owner, f"leave room for {shape[2]} tokens of {room}", filled)


def check_attention_inputs(
    x: Tensor,
    norm: Tensor,
    epsilon: float,
    weights_t: Sequence[Tensor],
    thresholds: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    cos: Tensor,
    sin: Tensor,
    device: str,
) -> None:
    """Raise unless the arguments are as the processor's ``attention_inputs`` needs them."""
    owner = "queries, keys and values"
    for name, given in (("weights_t", weights_t), ("thresholds", thresholds), ("biases", biases)):
        if len(given) != 3:
            _refuse(name, owner, "be three", len(given))
    if x.dim() != 3:
        _refuse("x", owner, "have the shape (batch, tokens, hidden)", _shape(x))
    if cos.dim() != 3 or not cos.shape[-1]:
        _refuse("cos", owner, "have the shape (batch or 1, tokens, size)", _shape(cos))
    check_rms_norm(x, norm, epsilon, device)
    size = cos.shape[-1]
    for weight_t, threshold, bias in zip(weights_t, thresholds, biases, strict=True):
        check_input_sparse(x, weight_t, threshold, bias, device)
        if weight_t.shape[1] % size:
            _refuse("weights_t", owner, f"have outputs for heads of {size}", _shape(weight_t))
    batch, tokens = x.shape[:2]
    q, k = (x.new_empty(batch, w.shape[1] // size, tokens, size) for w in weights_t[:2])
    check_rotary(q, k, cos, sin, device)


def check_attention_added(
    residual: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scaling: float,
    weight_t: Tensor,
    threshold: Tensor,
    bias: Tensor | None,
    norm: Tensor,
    epsilon: float,
    device: str,
) -> None:
    """Raise unless the arguments are as the processor's ``attention_added`` needs them."""
    check_attend(q, k, v, scaling, device)
    heads = q.new_empty(len(q), 1, q.shape[1] * v.shape[3])
    check_input_sparse(heads, weight_t, threshold, bias, device)
    owner, shape = "what attention adds", (len(q), 1, weight_t.shape[1])
    if _shape(residual) != shape or residual.dtype is not q.dtype:
        got = f"{_shape(residual)} of {residual.dtype}"
        _refuse("residual", owner, f"have the shape {shape} and be {q.dtype}, as 'q'", got)
    _check_device(residual, "residual", owner, device)
    check_rms_norm(residual, norm, epsilon, device)


def _check_weight(weight: Tensor, name: str, owner: str, device: str) -> str:
    """Check the first tensor, and return where the others have to be: on one of several GPUs."""
    if weight.dim() != 2 or not weight.is_contiguous():
        got = f"shape {_shape(weight)} with strides {weight.stride()}"
        _refuse(name, owner, "be contiguous, of two dimensions", got)
    _check_kind(weight, name, owner, device)
    return device if device == "cpu" else str(weight.device)


def _check_rows(x: Tensor, name: str, n_in: int, owner: str, device: str) -> None:
    if x.dim() == 0 or not 1 <= x.shape[:-1].numel() <= MOST_ROWS or x.shape[-1] != n_in:
        allowed = f"have the shape ({n_in},) or (..., {n_in}), 1 to {MOST_ROWS} rows in all"
        _refuse(name, owner, allowed, _shape(x))
    _check_kind(x, name, owner, device)


def _check_bias(bias: Tensor | None, name: str, n_out: int, owner: str, device: str) -> None:
    if bias is None:
        return
    if bias.shape != (n_out,):
        _refuse(name, owner, f"have the shape ({n_out},)", _shape(bias))
    _check_kind(bias, name, owner, device)


def _check_threshold(threshold: Tensor, n_in: int, owner: str, device: str) -> None:
    if threshold.shape not in ((), (n_in,)):
        _refuse("threshold", owner, f"have the shape () or ({n_in},)", _shape(threshold))
    if threshold.dtype is not torch.float32:
        _refuse("threshold", owner, "be float32", threshold.dtype)
    _check_device(threshold, "threshold", owner, device)


def _check_index(index: Tensor, size: int, owner: str, device: str) -> None:
    if index.dtype is not torch.int64 or index.dim() != 1:
        got = f"{index.dtype} of shape {_shape(index)}"
        _refuse("index", owner, "be int64 of one dimension", got)
    _check_device(index, "index", owner, device)
    if index.device.type != "cpu" or not index.numel():  # to look at it would hold up a GPU
        return
    if index[0] < 0 or index[-1] >= size or (index.numel() > 1 and index.diff().min() < 1):
        _refuse("index", owner, f"ascend within [0, {size - 1}], each once", index.tolist()[:8])


def _check_kind(tensor: Tensor, name: str, owner: str, device: str) -> None:
    if tensor.dtype not in DTYPES:
        _refuse(name, owner, f"be one of {quoted(DTYPES)}", tensor.dtype)
    _check_device(tensor, name, owner, device)


def _check_device(tensor: Tensor, name: str, owner: str, device: str) -> None:
    if device not in (tensor.device.type, str(tensor.device)):
        _refuse(name, owner, f"be on the device {device}", tensor.device)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _refuse(name: str, owner: str, allowed: str, got: object) -> None:
    raise SparseError(f"The '{name}' of {owner} must {allowed}. Got {got}.")
