"""Products on a GPU that read only the weights they need, in Triton.

Triton is optional: builds of torch for CUDA bring it along. With the variable TRITON_INTERPRET=1,
set before Python starts, the same kernels run on CPU tensors, slowly: for tests.

Results have the same bits each time: sums are split in parts whose number depends on shapes alone,
and parts are added up in order. Kernels are compiled on first use for each dtype and kind of
argument; they are not operators of torch, so ``torch.compile`` traces them as they are.
"""

from __future__ import annotations

import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from lmri.errors import SparseError
from lmri.sparse.kernels.checks import (
    ACTIVATIONS,
    check_input_listed,
    check_input_sparse,
    check_output_sparse,
    check_sparse_mlp,
    check_transposed,
    check_whole_mlp,
)
from lmri.sparse.kernels.interface import Backend

# Tiles of weights. Masks are by row of a tile: one of 256 outputs is what a warp loads at once, so
# that no warp waits for lanes that have nothing to read.
MOST_OUT, BLOCK_IN = 256, 32  # of a transposed weight
ROW_OUT, MOST_ROW_IN = 4, 512  # of one in its own layout

PROGRAMS = 1024
"""About as many as an input-sparse product is split into: some for every processor of a GPU."""

LEAST_PART = 128
"""Fewest channels of a part: below, to add up the parts costs more than the parts."""


class Triton:
    """Backend for a GPU; made by :func:`load_triton`. See :class:`lmri.sparse.kernels.Backend`.

    Parameters
    ----------
    kernels : module
        :mod:`lmri.sparse.kernels.triton_kernels`.
    device : str
        Type of the device of all tensors.
    """

    name = "triton"

    def __init__(self, kernels: ModuleType, device: str) -> None:
        self.device = device
        self._kernels = kernels

    def transposed(self, weight: Tensor) -> Tensor:
        """Copy, and no more."""
        check_transposed(weight, self.device)
        return weight.mT.clone(memory_format=torch.contiguous_format)

    def input_sparse(
        self, x: Tensor, weight_t: Tensor, threshold: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Load the weights of active channels, and no other."""
        check_input_sparse(x, weight_t, threshold, bias, self.device)
        return self._add(x, x, weight_t, threshold, None, bias).to(x.dtype)

    def input_listed(
        self, x: Tensor, weight_t: Tensor, index: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Load the weights of the channels listed, and no other."""
        check_input_listed(x, weight_t, index, bias, self.device)
        return self._add(x, x, weight_t, None, index, bias).to(x.dtype)

    def output_sparse(
        self, x: Tensor, weight: Tensor, index: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Multiply the rows named, and no other."""
        check_output_sparse(x, weight, index, bias, self.device)
        y = torch.zeros((*x.shape[:-1], len(weight)), dtype=x.dtype, device=x.device)
        if index.numel():
            self._multiply(x, weight, None, None, index, bias, y)
        return y

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
        """Multiply the rows of active neurons with x, then add up what these neurons write."""
        check_sparse_mlp(a, x, weight_up, weight_down_t, threshold, bias_up, bias_down, self.device)
        neurons = a
        if x is not None and weight_up is not None:
            neurons = torch.empty(a.shape, dtype=torch.float32, device=a.device)
            self._multiply(x, weight_up, a, threshold, None, bias_up, neurons)
        return self._add(neurons, a, weight_down_t, threshold, None, bias_down).to(a.dtype)

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
        """Multiply all rows of ``weight_in`` with x, then :meth:`sparse_mlp`."""
        weights = weight_in, weight_up, weight_down_t
        biases = bias_in, bias_up, bias_down
        check_whole_mlp(x, *weights, activation, threshold, *biases, self.device)
        shape = (*x.shape[:-1], len(weight_in))
        first = torch.empty(shape, dtype=torch.float32, device=x.device)
        every = torch.arange(len(weight_in), device=x.device)
        self._multiply(x, weight_in, None, None, every, bias_in, first)
        a = ACTIVATIONS[activation](first.to(x.dtype))
        read = None if weight_up is None else x
        y = self.sparse_mlp(a, read, weight_up, weight_down_t, threshold, bias_up, bias_down)
        return y, a

    def _add(
        self,
        values: Tensor,
        deciding: Tensor,
        weight_t: Tensor,
        threshold: Tensor | None,
        index: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        """Add up the channels of ``values`` that ``deciding``, or an index, makes active."""
        n_in, n_out = weight_t.shape
        count = n_in if index is None else index.numel()
        rows = values.shape[:-1].numel()
        block_out = min(MOST_OUT, _power_of_two(n_out))
        blocks = -(-n_out // block_out)
        parts = max(1, min(PROGRAMS // blocks, count // LEAST_PART))
        part_size = -(-max(count, 1) // (parts * BLOCK_IN)) * BLOCK_IN
        sums = torch.empty((parts, rows, n_out), dtype=torch.float32, device=values.device)
        y = torch.empty((*values.shape[:-1], n_out), dtype=deciding.dtype, device=values.device)
        # An argument that a kernel does not use is any tensor.
        unused = weight_t
        with _on(values):
            self._kernels.add_channels[(rows, blocks, parts)](
                values.contiguous(),
                deciding.contiguous(),
                unused if threshold is None else threshold.contiguous(),
                unused if index is None else index.contiguous(),
                weight_t,
                sums,
                count,
                n_in,
                n_out,
                part_size,
                LISTED=index is not None,
                EACH=threshold is not None and threshold.dim() == 1,
                BLOCK_IN=BLOCK_IN,
                BLOCK_OUT=block_out,
            )
            self._kernels.add_parts[(rows, blocks)](
                sums,
                unused if bias is None else bias.contiguous(),
                y,
                parts,
                n_out,
                BIASED=bias is not None,
                BLOCK_OUT=block_out,
            )
        return y

    def _multiply(
        self,
        x: Tensor,
        weight: Tensor,
        deciding: Tensor | None,
        threshold: Tensor | None,
        index: Tensor | None,
        bias: Tensor | None,
        y: Tensor,
    ) -> None:
        """Fill ``y`` where an index, or ``deciding``, says so; with the latter multiplied by it."""
        n_out, n_in = weight.shape
        count = n_out if index is None else index.numel()
        unused = weight
        with _on(x):
            self._kernels.multiply_rows[(x.shape[:-1].numel(), -(-count // ROW_OUT))](
                x.contiguous(),
                weight,
                unused if deciding is None else deciding.contiguous(),
                unused if threshold is None else threshold.contiguous(),
                unused if index is None else index.contiguous(),
                unused if bias is None else bias.contiguous(),
                y,
                count,
                n_in,
                n_out,
                LISTED=index is not None,
                EACH=threshold is not None and threshold.dim() == 1,
                BIASED=bias is not None,
                BLOCK_IN=min(MOST_ROW_IN, _power_of_two(n_in)),
                BLOCK_OUT=ROW_OUT,
            )


@cache
def load_triton() -> Backend:
    """Return the backend for a GPU.

    Returns
    -------
    Backend
        ``triton``; its ``device`` is ``cuda``, or ``cpu`` where TRITON_INTERPRET is 1.

    Raises
    ------
    SparseError
        If there is no Triton, or neither a GPU nor the interpreter.
    """
    if importlib.util.find_spec("triton") is None:
        raise SparseError(
            "The backend 'triton' needs the package triton, which builds of torch for CUDA bring "
            "along (pip install triton): install it, or use the backend 'cpu'."
        )
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if not interpreted and not torch.cuda.is_available():
        raise SparseError(
            "The backend 'triton' needs a GPU, and torch finds none here: use the backend 'cpu', "
            "or set TRITON_INTERPRET=1 to try the kernels on the CPU, slowly."
        )
    kernels = importlib.import_module("lmri.sparse.kernels.triton_kernels")
    return Triton(kernels, "cpu" if interpreted else "cuda")


def _power_of_two(size: int) -> int:
    return 1 << max(0, size - 1).bit_length()


def _on(tensor: Tensor) -> AbstractContextManager:
    """Make the GPU of a tensor the one that kernels are started on."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
