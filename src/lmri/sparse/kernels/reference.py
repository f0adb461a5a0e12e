"""Masked dense products: nothing is skipped, everything is plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from lmri.sparse.kernels.checks import (
    ACTIVATIONS,
    check_input_listed,
    check_input_sparse,
    check_output_sparse,
    check_sparse_mlp,
    check_transposed,
    check_whole_mlp,
)


class Reference:
    """Backend that sets to zero what others skip; the truth that they are tested against.

    Sums are in float32 whatever the weights are: bfloat16 weights are widened at each call, which
    takes their size twice over in memory. See :class:`lmri.sparse.kernels.Backend`.

    Parameters
    ----------
    device : str, optional
        Type of the device of all tensors.
    """

    name = "reference"

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def transposed(self, weight: Tensor) -> Tensor:
        """Copy, and no more."""
        check_transposed(weight, self.device)
        return weight.mT.clone(memory_format=torch.contiguous_format)

    def input_sparse(
        self, x: Tensor, weight_t: Tensor, threshold: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Compute ``(x * not (|x| <= threshold)) @ weight_t + bias``."""
        check_input_sparse(x, weight_t, threshold, bias, self.device)
        y = _masked(x, threshold) @ weight_t.float()
        return (y if bias is None else y + bias).to(x.dtype)

    def input_listed(
        self, x: Tensor, weight_t: Tensor, index: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Compute ``(x * (listed in index)) @ weight_t + bias``."""
        check_input_listed(x, weight_t, index, bias, self.device)
        y = x.float().masked_fill(~_named(index, len(weight_t)), 0) @ weight_t.float()
        return (y if bias is None else y + bias).to(x.dtype)

    def output_sparse(
        self, x: Tensor, weight: Tensor, index: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Compute ``(weight @ x + bias) * (named in index)``."""
        check_output_sparse(x, weight, index, bias, self.device)
        y = x.float() @ weight.float().T
        return ((y if bias is None else y + bias) * _named(index, len(weight))).to(x.dtype)

    def sparse_mlp(
        self,
        a: Tensor,
        x: Tensor | None,
        weight_up: Tensor | None,
        weight_down_t: Tensor,
        threshold: Tensor,
        bias_up: Tensor | None = None,
        bias_down: Tensor | None = None,
    ) -> Tensor:
        """Compute ``((a * not (|a| <= t)) * (weight_up @ x + bias_up)) @ weight_down_t``."""
        check_sparse_mlp(a, x, weight_up, weight_down_t, threshold, bias_up, bias_down, self.device)
        neurons = _masked(a, threshold)
        if x is not None and weight_up is not None:
            up = x.float() @ weight_up.float().T
            neurons = neurons * (up if bias_up is None else up + bias_up)
        y = neurons @ weight_down_t.float()
        return (y if bias_down is None else y + bias_down).to(a.dtype)

    def whole_mlp(
        self,
        x: Tensor,
        weight_in: Tensor,
        weight_up: Tensor | None,
        weight_down_t: Tensor,
        activation: str,
        threshold: Tensor,
        bias_in: Tensor | None = None,
        bias_up: Tensor | None = None,
        bias_down: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute ``a`` from all rows of ``weight_in``, then :meth:`sparse_mlp`."""
        weights = weight_in, weight_up, weight_down_t
        biases = bias_in, bias_up, bias_down
        check_whole_mlp(x, *weights, activation, threshold, *biases, self.device)
        first = x.float() @ weight_in.float().T
        first = (first if bias_in is None else first + bias_in).to(x.dtype)
        a = ACTIVATIONS[activation](first)
        read = None if weight_up is None else x
        y = self.sparse_mlp(a, read, weight_up, weight_down_t, threshold, bias_up, bias_down)
        return y, a


def _masked(x: Tensor, threshold: Tensor) -> Tensor:
    wide = x.float()
    # Not "greater than": a value that is not a number stays.
    return wide.masked_fill(wide.abs() <= threshold, 0)


def _named(index: Tensor, size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.bool, device=index.device).index_fill(0, index, True)
