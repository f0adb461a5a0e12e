"""Chosen experts on one row of activations: of these active neurons are read, of others nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lmri.errors import SparseError
from lmri.sparse.kernels.interface import Backend

Elementwise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Experts:
    """Weights of the experts of a layer, so that a neuron of an expert is one run of memory.

    Attributes
    ----------
    gate, up : Tensor of shape (n_experts, size, hidden)
        What neurons read; every expert contiguous.
    down_t : Tensor of shape (n_experts, size, hidden)
        What neurons write; every expert contiguous.
    gate_bias, up_bias : Tensor of shape (n_experts, size), or None
        Of what neurons read.
    down_bias : Tensor of shape (n_experts, hidden), or None
        Of what experts write.
    every : Tensor of shape (size,), int64
        All neurons of an expert.
    """

    gate: Tensor
    up: Tensor
    down_t: Tensor
    gate_bias: Tensor | None
    up_bias: Tensor | None
    down_bias: Tensor | None
    every: Tensor

    @classmethod
    def of(
        cls,
        gate_up: Tensor,
        down: Tensor,
        gate_up_bias: Tensor | None = None,
        down_bias: Tensor | None = None,
        *,
        transposed: bool = False,
        interleaved: bool = False,
    ) -> Experts:
        """Arrange the fused weights of transformers; what lies as needed is not copied.

        Parameters
        ----------
        gate_up : Tensor of shape (n_experts, 2 size, hidden)
            ``gate_up_proj``: rows of the gate, then of the up projection. Not copied unless it is
            transposed or interleaved.
        down : Tensor of shape (n_experts, hidden, size)
            ``down_proj``. Copied unless it is transposed.
        gate_up_bias : Tensor of shape (n_experts, 2 size), optional
            In the order of the rows of ``gate_up``.
        down_bias : Tensor of shape (n_experts, hidden), optional
            Of the down projection.
        transposed : bool, optional
            Whether the last two dimensions of both weights are the other way round.
        interleaved : bool, optional
            Whether rows of gate and up projection take turns.

        Returns
        -------
        Experts
            Views and copies of the weights.

        Raises
        ------
        SparseError
            If the shapes do not fit each other.
        """
        rows = gate_up.transpose(1, 2) if transposed else gate_up
        down_t = down if transposed else down.transpose(1, 2)
        n_experts, double, hidden = rows.shape
        if down_t.shape != (n_experts, double // 2, hidden):
            raise SparseError(
                f"The 'down' of experts must have the shape {(n_experts, double // 2, hidden)} "
                f"(experts, neurons, hidden). Got {tuple(down_t.shape)}."
            )
        gate, up = _halves(rows, 1, interleaved)
        biases = (None, None) if gate_up_bias is None else _halves(gate_up_bias, 1, interleaved)
        return cls(
            gate=_expert_contiguous(gate),
            up=_expert_contiguous(up),
            down_t=_expert_contiguous(down_t),
            gate_bias=biases[0],
            up_bias=biases[1],
            down_bias=down_bias,
            every=torch.arange(double // 2, device=rows.device),
        )


def sparse_experts(
    backend: Backend,
    x: Tensor,
    experts: Experts,
    ids: Tensor,
    weights: Tensor,
    threshold: Tensor,
    activation: Elementwise,
    change_up: Elementwise | None = None,
) -> Tensor:
    """Compute ``y = sum_s w_s (sum_i a_si u_si down_t[e_s, i] + bias)`` over active neurons.

    ``a_s = activation(gate[e_s] x)`` and ``u_s = up[e_s] x`` are the neurons of the expert ``e_s``
    in slot s; the sum is over those with ``|a_si| > t``. The gate of a chosen expert is read whole.

    Parameters
    ----------
    backend : Backend
        What runs the products.
    x : Tensor of shape (hidden,)
        Input of the experts.
    experts : Experts
        Their weights.
    ids : Tensor of shape (top_k,), int64
        Chosen experts; negative, or the number of experts and above, in a slot to skip. They are
        read by the program, which waits for a GPU once.
    weights : Tensor of shape (top_k,)
        Weights of the slots.
    threshold : Tensor of shape (), (n_experts,) or (n_experts, size), float32
        Of ``a``; strict.
    activation : callable
        Nonlinearity of the gate.
    change_up : callable, optional
        What the family does to ``u`` before the product with ``a``, such as limits.

    Returns
    -------
    Tensor of shape (hidden,)
        The routed output, of the dtype of ``x``; 0 if every slot is skipped.

    Raises
    ------
    SparseError
        If a shape, dtype, layout or device does not fit.
    """
    n_experts, size, hidden = experts.gate.shape
    _check(x, ids, weights, threshold, (n_experts, size, hidden))
    y = torch.zeros(hidden, dtype=torch.float32, device=x.device)
    for slot, expert in enumerate(ids.tolist()):
        if not 0 <= expert < n_experts:
            continue
        gate_bias, up_bias, down_bias = (
            None if bias is None else bias[expert]
            for bias in (experts.gate_bias, experts.up_bias, experts.down_bias)
        )
        a = activation(backend.output_sparse(x, experts.gate[expert], experts.every, gate_bias))
        limit = threshold if threshold.dim() == 0 else threshold[expert]
        up, down_t = experts.up[expert], experts.down_t[expert]
        if change_up is None:
            out = backend.sparse_mlp(a, x, up, down_t, limit, up_bias, down_bias)
        else:
            index = a.float().abs().le(limit).logical_not().nonzero().squeeze(1)
            neurons = a * change_up(backend.output_sparse(x, up, index, up_bias))
            out = backend.input_listed(neurons, down_t, index, down_bias)
        y += weights[slot] * out
    return y.to(x.dtype)


def _halves(tensor: Tensor, dim: int, interleaved: bool) -> tuple[Tensor, Tensor]:
    if interleaved:
        gate, up = tensor.unflatten(dim, (-1, 2)).unbind(dim + 1)
    else:
        gate, up = tensor.chunk(2, dim)
    return gate, up


def _expert_contiguous(tensor: Tensor) -> Tensor:
    return tensor if tensor[0].is_contiguous() else tensor.contiguous()


def _check(
    x: Tensor, ids: Tensor, weights: Tensor, threshold: Tensor, shape: tuple[int, int, int]
) -> None:
    n_experts, size, hidden = shape
    thresholds = ((), (n_experts,), (n_experts, size))
    for name, allowed, got in (
        ("x", ((hidden,),), x.shape),
        ("ids", ((ids.numel(),),), ids.shape),
        ("weights", ((ids.numel(),),), weights.shape),
        ("threshold", thresholds, threshold.shape),
    ):
        if tuple(got) not in allowed:
            shapes = " or ".join(map(str, allowed))
            raise SparseError(
                f"The '{name}' of sparse experts must have the shape {shapes}. Got {tuple(got)}."
            )
