"""Matrix-vector products that skip work, behind one interface.

``backend("cpu")`` and, on a GPU, ``backend("triton")`` skip; ``backend("reference")`` computes the
same from masked dense products and is what the others are held against. See :class:`Backend` for
the products.
"""

from __future__ import annotations

from collections.abc import Callable

from lmri.checks import check_choice
from lmri.errors import SparseError
from lmri.sparse.kernels.checks import ACTIVATIONS, DTYPES, MOST_ROWS
from lmri.sparse.kernels.cpu import load_cpu
from lmri.sparse.kernels.gpu import load_triton
from lmri.sparse.kernels.interface import Backend
from lmri.sparse.kernels.reference import Reference

BACKENDS: dict[str, Callable[[], Backend]] = {
    "reference": Reference,
    "cpu": load_cpu,
    "triton": load_triton,
}
"""Backends by name: what makes them."""


def backend(name: str) -> Backend:
    """Return a backend that can run here.

    Parameters
    ----------
    name : str
        One of :data:`BACKENDS`.

    Returns
    -------
    Backend
        The one asked for. Where ``cpu`` cannot be built, ``reference``, with one warning a process;
        its ``name`` says which it is.

    Raises
    ------
    SparseError
        If there is no such backend, or if it is ``triton`` and there is no GPU or no Triton.
    """
    check_choice(name, BACKENDS, "backend", "sparse products", SparseError)
    return BACKENDS[name]()


__all__ = ["ACTIVATIONS", "Backend", "backend", "BACKENDS", "DTYPES", "MOST_ROWS"]
