"""Memory for a variable of all layers, filled layer by layer and used again batch after batch."""

from __future__ import annotations

import math

import torch

from lmri.anatomy import Variable

Place = tuple[int, ...]
"""Layer, and the position of the place where a variable has places."""


class LayerParts(dict[Place, torch.Tensor]):
    """Activity of one variable in one batch: a dict of its parts, by place.

    The parts are views of one tensor with layers and places first: each is contiguous and written
    once, where it stays, and nothing has to be put together. The tensor is the next batch's too.

    Parameters
    ----------
    variable : Variable
        The variable.
    """

    def __init__(self, variable: Variable) -> None:
        super().__init__()
        self._path = variable.path
        self._positions = {layer: i for i, layer in enumerate(variable.layers)}
        self._leading = variable.shape[: 2 if "place" in variable.dims else 1]
        self._trailing = variable.shape[len(self._leading) :]
        self._memory = torch.empty(0)
        self._whole: torch.Tensor | None = None

    def clear(self) -> None:
        """Forget the batch, and keep the memory."""
        super().clear()
        self._whole = None

    def part(self, place: Place, rows: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        """Return where the activity of a place has to be written.

        Parameters
        ----------
        place : tuple of int
            Layer, and place if the variable has places.
        rows : Size
            Dimensions before those of the variable; the same for every place of a batch.
        dtype : dtype
            Type of the values; the same for every place of a batch.

        Returns
        -------
        Tensor of shape (*rows, ...)
            On the processor, contiguous; anything may be in it.
        """
        if self._whole is None:
            self._whole = self._reserve((*self._leading, *rows, *self._trailing), dtype)
        self[place] = self._whole[self._positions[place[0]], *place[1:]]
        return self[place]

    def together(self) -> torch.Tensor:
        """Return all parts.

        Returns
        -------
        Tensor of shape (*rows, layers, ...)
            A view, with the variable's dimensions after the rows; valid until the next batch.

        Raises
        ------
        KeyError
            If a part is missing.
        """
        expected = math.prod(self._leading)
        if len(self) != expected:
            missing = expected - len(self)
            raise KeyError(f"{self._path}: {missing} of {expected} parts were not captured")
        rows = self._whole.ndim - len(self._leading) - len(self._trailing)
        own = range(len(self._leading))
        return self._whole.movedim(tuple(own), tuple(rows + axis for axis in own))

    def _reserve(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        size = math.prod(shape)
        if self._memory.dtype != dtype or len(self._memory) < size:
            self._memory = torch.empty(size, dtype=dtype)
        return self._memory[:size].view(shape)
