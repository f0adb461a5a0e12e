"""Order statistics of a stream of values: exact, in two passes, with memory that does not grow.

The bits of a float32 that is not negative, read as an integer, are in the order of its value. The
first pass counts values by their upper 15 bits, which finds the bin of a rank; the second counts
those of that bin by their lower 16 bits, which finds the value itself. Nothing is approximated: the
result is that of sorting everything.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from lmri.errors import SparseError

UPPER, LOWER = 2**15, 2**16
"""Bins of both passes. A bin of the first is as wide as a step of bfloat16, 0.8 % of its value."""


class Selection:
    """Order statistics of one stream.

    Feed all values to :meth:`count`, name ranks by :meth:`seek`, feed all values once more to
    :meth:`refine`, and take :meth:`found`.

    Parameters
    ----------
    name : hashable
        Names the stream in a message.
    """

    def __init__(self, name: Hashable = "the activity") -> None:
        self.total = 0
        self._name = name
        self._upper = torch.zeros(UPPER, dtype=torch.int64)
        self._ranks: list[int] = []
        self._bins: dict[int, Tensor] = {}

    def count(self, values: Tensor) -> None:
        """Count values, first pass.

        Parameters
        ----------
        values : Tensor, float
            Values from 0, of any shape.

        Raises
        ------
        SparseError
            If one is not finite.
        """
        upper = self._bits(values) >> 16
        self._upper += torch.bincount(upper, minlength=UPPER).cpu()
        self.total += values.numel()

    def seek(self, ranks: Sequence[int]) -> None:
        """Name the ranks that are wanted, after the first pass.

        Parameters
        ----------
        ranks : sequence of int
            From 1, the smallest value, to :attr:`total`.
        """
        ends = self._upper.cumsum(0)
        self._ranks = list(ranks)
        places = torch.searchsorted(ends, torch.tensor(self._ranks, dtype=torch.int64))
        self._bins = {int(place): torch.zeros(LOWER, dtype=torch.int64) for place in places}

    def refine(self, values: Tensor) -> None:
        """Count values again, second pass.

        Parameters
        ----------
        values : Tensor, float
            The same values; the order may be another.
        """
        bits = self._bits(values)
        upper = bits >> 16
        for place, counts in self._bins.items():
            counts += torch.bincount(bits[upper == place] & (LOWER - 1), minlength=LOWER).cpu()

    def found(self) -> Tensor:
        """Values of the ranks that were named, after the second pass.

        Returns
        -------
        Tensor of shape (n_ranks,), float32
            The values.
        """
        below = self._upper.cumsum(0) - self._upper
        bits = []
        for rank in self._ranks:
            place = int(torch.searchsorted(below + self._upper, rank))
            within = self._bins[place].cumsum(0)
            lower = int(torch.searchsorted(within, rank - int(below[place])))
            bits.append((place << 16) + lower)
        return torch.tensor(bits, dtype=torch.int32).view(torch.float32)

    def coarse(self, ranks: Sequence[int]) -> Tensor:
        """Values of ranks from the first pass alone, within 0.8 % above the true ones.

        Parameters
        ----------
        ranks : sequence of int
            From 1 to :attr:`total`.

        Returns
        -------
        Tensor of shape (n_ranks,), float32
            The largest value of the bin of each.
        """
        wanted = torch.as_tensor(ranks, dtype=torch.int64)
        places = torch.searchsorted(self._upper.cumsum(0), wanted)
        return ((places << 16) + (LOWER - 1)).to(torch.int32).view(torch.float32)

    def _bits(self, values: Tensor) -> Tensor:
        values = values.detach().float().flatten()
        if not bool(values.isfinite().all()):
            raise SparseError(
                f"The activity that a policy is calibrated on must be finite. That of {self._name} "
                "is not: load the subject in float32 or bfloat16, or mend its weights."
            )
        # abs: the bits of minus zero are not those of zero.
        return values.abs().view(torch.int32).long()


def skipped_count(share: float, total: int) -> int:
    """Values that a share is: ``floor(share * total)``, without the rounding of the product.

    Parameters
    ----------
    share : float
        In [0, 1).
    total : int
        All values.

    Returns
    -------
    int
        From 0 to ``total``.
    """
    return math.floor(share * total + 1e-9 * max(1, total))
