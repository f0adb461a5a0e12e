"""Weights as kernels read them: one copy of each, the model's own wherever that is possible.

Kernels can skip inputs only of a matrix that lies by its inputs: they need it transposed. Outputs
that are packed or chosen, parts that lie so anyway, and what makes the neurons of an MLP that a
kernel computes in one call, are read by outputs. Packed rows are copied twice, one part at a time,
so that the copy lies in large pages.
Where the whole matrix belongs to one projection, the model's own is replaced by a view of the
transposed copy, and put back when the session ends: no more memory is held than before, but for one
matrix at a time while they are turned. Parts of a fused matrix, and packed rows and columns, are
copies beside the model's own; :attr:`Weights.copied` says how many bytes they take.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lmri.anatomy.linears import Projection
from lmri.sparse.kernels import Backend


class Weights:
    """Weights of one session.

    Parameters
    ----------
    kernel : Backend
        What they are read by.

    Attributes
    ----------
    copied : int
        Bytes of the copies held beside the model's own weights.
    """

    def __init__(self, kernel: Backend) -> None:
        self.copied = 0
        self._kernel = kernel
        self._turned: dict[tuple[int, str], Tensor] = {}
        self._restore: list[Callable[[], None]] = []

    def by_output(
        self,
        part: Projection,
        expert: int | None = None,
        outputs: Tensor | None = None,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """Give weights with every output in one run of memory.

        Parameters
        ----------
        part : Projection
            The projection.
        expert : int, optional
            Which, of experts.
        outputs, inputs : Tensor of shape (n,), int64, optional
            Those that exist; all by default.

        Returns
        -------
        Tensor of shape (n_outputs, n_inputs)
            Contiguous; the model's own memory where it lies so.
        """
        weight = _packed(part.weight, expert, outputs, inputs)
        if weight.is_contiguous() and outputs is None and inputs is None:
            return weight
        self.copied += weight.nbytes
        return self._kernel.transposed(weight.T)

    def by_input(
        self,
        part: Projection,
        expert: int | None = None,
        outputs: Tensor | None = None,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """Give weights with every input in one run of memory, as :meth:`by_output`.

        Returns
        -------
        Tensor of shape (n_inputs, n_outputs)
            Contiguous; the model's own is turned where that costs no memory.
        """
        if part.whole and not part.transposed and outputs is None and inputs is None:
            turned = self._turn(part)
            return turned if expert is None else turned[expert]
        weight = _packed(part.weight, expert, outputs, inputs)
        if weight.T.is_contiguous() and outputs is None and inputs is None:
            return weight.T
        turned = self._kernel.transposed(weight)
        self.copied += turned.nbytes
        return turned

    def view(
        self,
        part: Projection,
        expert: int | None = None,
        outputs: Tensor | None = None,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """Give weights of shape (n_outputs, n_inputs) as they lie, for masked products."""
        return _packed(part.weight, expert, outputs, inputs)

    def restore(self) -> None:
        """Put the model's own weights back as they were, to the bit."""
        while self._restore:
            self._restore.pop()()

    def _turn(self, part: Projection) -> Tensor:
        key = id(part.module), part.attribute
        if key not in self._turned:
            matrix = part.matrix
            turned = self._kernel.transposed(matrix.detach())  # (..., inputs, outputs)
            self._turned[key] = turned

            def put_back() -> None:
                matrix.data = turned.mT.contiguous()

            self._restore.append(put_back)
            matrix.data = turned.mT
        return self._turned[key]


def lies_by_output(part: Projection, expert: int | None = None) -> bool:
    """Tell whether a part of a matrix lies output by output, and could not be turned alone."""
    if part.whole:
        return False
    weight = part.weight if expert is None else part.weight[expert]
    return isinstance(part.rows, slice) and weight.is_contiguous()


def _packed(
    weight: Tensor, expert: int | None, outputs: Tensor | None, inputs: Tensor | None
) -> Tensor:
    weight = weight if expert is None else weight[expert]
    weight = weight if outputs is None else weight[outputs]
    return weight if inputs is None else weight[:, inputs]


def packed_bias(
    part: Projection, expert: int | None = None, outputs: Tensor | None = None
) -> Tensor | None:
    """Give the bias of the outputs that exist; None without."""
    bias = part.bias
    if bias is None:
        return None
    bias = bias if expert is None else bias[expert]
    return (bias if outputs is None else bias[outputs]).contiguous()


def indices(kept: tuple[int, ...] | None, device: torch.device) -> Tensor | None:
    """Make an index of a list; None stays None."""
    return None if kept is None else torch.tensor(kept, dtype=torch.int64, device=device)
