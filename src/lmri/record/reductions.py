"""Reductions in C++: pools, summaries of attention, next-token statistics, halves in one reading.

The same numbers come out of a few operations of torch each, on any device; on a processor those
read and write what they make between them, and moving it takes longer than the arithmetic. Here
every value is read once (the weights of attention never leave the first cache) and sums are in
float64. Bits differ from those of torch, and do not depend on the number of threads.

The source beside this module is built on first use, see :mod:`lmri.native`. Without a compiler
everything is left to torch, with one warning.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import torch

from lmri.errors import BuildError
from lmri.native import Library, built

REDUCTIONS = Library("reductions of recording", "lmri.record", "reductions.cpp")

SETS = {"AVX512": "avx512", "AVX2": "avx2"}
"""Sets of instructions by how the names that torch has for them begin."""

POINTER, INTEGER, SMALL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32

FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "norms": (POINTER, POINTER, *[INTEGER] * 4, POINTER, SMALL),
    "pool": (POINTER, *[INTEGER] * 5, *[POINTER] * 5, SMALL),
    "narrow": (POINTER, *[INTEGER] * 5, *[POINTER] * 3, INTEGER, POINTER, SMALL),
    "attention": (*[POINTER] * 4, ctypes.c_float, *[POINTER] * 4, SMALL),
    "next_token": (POINTER, *[INTEGER] * 3, *[POINTER] * 3, SMALL),
}
"""Types of the arguments of each function, see the source."""


class Reductions:
    """The functions of one set of instructions; made by :func:`load_reductions`.

    All tensors are on the processor; shapes are those of the functions in torch that these stand
    in for, which also see to what is not said here.

    Parameters
    ----------
    library : CDLL
        The library.
    instructions : str
        Name of the set.

    Attributes
    ----------
    instructions : str
        The same.
    """

    def __init__(self, library: ctypes.CDLL, instructions: str) -> None:
        self.instructions = instructions
        self._functions: dict[str, Callable[..., int]] = {}
        for name, types in FUNCTIONS.items():
            function = getattr(library, f"{instructions}_{name}")
            function.argtypes, function.restype = types, SMALL
            self._functions[name] = function

    def norms(self, values: torch.Tensor) -> torch.Tensor:
        """Norms over the last dimension, see :func:`norms`.

        Parameters
        ----------
        values : Tensor of shape (batch, tokens, heads, size), float32
            The values over which a norm is taken one after another.

        Returns
        -------
        Tensor of shape (batch, tokens, heads), float32
            The norms.
        """
        out = torch.empty(values.shape[:3])
        strides = _numbers(*values.stride()[:3])
        self._call("norms", values.data_ptr(), strides, *values.shape, out.data_ptr())
        return out

    def pool(
        self, values: torch.Tensor, starts: torch.Tensor, tokens: torch.Tensor, out: torch.Tensor
    ) -> bool:
        """Pool one variable, see :class:`lmri.record.pooling.Pooling`.

        Parameters
        ----------
        values : Tensor of shape (batch, tokens, features), float32
            Activity; the features of a token one after another.
        starts : Tensor of shape (batch * n_phases + 1,), int64
            Where the tokens of each phase of each row begin in the list of tokens.
        tokens : Tensor of shape (n_members,), int32
            Positions in their rows, ascending within a phase.
        out : Tensor of shape (batch, n_phases, n_statistics, features), float32
            Where to; features one after another.

        Returns
        -------
        bool
            Whether all sums are finite.
        """
        batch, phases, _, features = out.shape
        finite = SMALL()
        self._call(
            "pool",
            values.data_ptr(),
            *values.stride()[:2],
            batch,
            phases,
            features,
            starts.data_ptr(),
            tokens.data_ptr(),
            out.data_ptr(),
            _numbers(*out.stride()[:3]),
            ctypes.byref(finite),
        )
        return bool(finite)

    def narrow(self, values: torch.Tensor, lengths: Sequence[int], out: torch.Tensor) -> bool:
        """Narrow the tokens of rows to half precision, one row after another without padding.

        To the nearest, ties to even: the bits are those of torch, but for which NaN it is.

        Parameters
        ----------
        values : Tensor of shape (batch, tokens, features), float32
            Activity; the features of a token one after another.
        lengths : sequence of int
            Of the rows, in tokens, without padding.
        out : Tensor of shape (n_tokens, features), float16
            Where to; features one after another.

        Returns
        -------
        bool
            Whether all that was written is finite.

        Raises
        ------
        ValueError
            If ``out`` has not as many rows and columns as there are tokens and features, or a row
            has fewer tokens than its length.
        """
        batch, tokens, features = values.shape
        *starts, total = accumulate(lengths, initial=0)
        if (
            len(lengths) != batch
            or max(lengths, default=0) > tokens
            or out.shape != (total, features)
        ):
            raise ValueError(
                f"rows of {list(lengths)} tokens of {tuple(values.shape)} do not go to "
                f"{tuple(out.shape)}"
            )
        finite = SMALL()
        self._call(
            "narrow",
            values.data_ptr(),
            *values.stride()[:2],
            *values.shape,
            _numbers(*starts),
            _numbers(*lengths),
            out.data_ptr(),
            out.stride(0),
            ctypes.byref(finite),
        )
        return bool(finite)

    def attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        scaling: float,
        ids: torch.Tensor,
        content: torch.Tensor,
        earlier: torch.Tensor,
        summaries: int,
    ) -> torch.Tensor:
        """Summarise causal attention, see :func:`lmri.record.attention.summarise`.

        Parameters
        ----------
        query : Tensor of shape (batch, heads, n_queries, size), float32
            Queries; those of the last keys. The values of each one after another.
        key : Tensor of shape (batch, key_heads, n_keys, size), float32
            Keys, likewise.
        scaling : float
            Factor of the scores.
        ids : Tensor of shape (batch, n_keys), int64
            Tokens; padding is negative.
        content : Tensor of shape (batch, n_keys), bool
            Tokens of the content.
        earlier : Tensor of shape (batch, n_keys), int32
            Position of the same token before, or -1.
        summaries : int
            How many there are.

        Returns
        -------
        Tensor of shape (batch, n_queries, summaries, heads), float32
            In the order of :data:`lmri.anatomy.ATTENTION_SUMMARIES`; 0 where padded.
        """
        batch, heads, queries, size = query.shape
        out = torch.empty((batch, queries, summaries, heads))
        self._call(
            "attention",
            query.data_ptr(),
            key.data_ptr(),
            _numbers(*query.stride()[:3], *key.stride()[:3]),
            _numbers(batch, heads, key.shape[1], queries, key.shape[2], size),
            scaling,
            ids.data_ptr(),
            content.data_ptr(),
            earlier.data_ptr(),
            out.data_ptr(),
        )
        return out

    def next_token(
        self, logits: torch.Tensor, following: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability of the word that follows, and entropy, both in nats.

        Parameters
        ----------
        logits : Tensor of shape (n_tokens, vocabulary), float32
            Logits; those of a token one after another.
        following : Tensor of shape (n_tokens,), int64
            The word after each, within the vocabulary.

        Returns
        -------
        log_probability, entropy : Tensor of shape (n_tokens,), float32
            In this order.

        Raises
        ------
        IndexError
            If a word is not within the vocabulary.
        """
        rows, words = logits.shape
        if rows and not 0 <= int(following.min()) <= int(following.max()) < words:
            raise IndexError(f"a word that follows is not one of {words}")
        made = torch.empty(rows), torch.empty(rows)
        pointers = [values.data_ptr() for values in (following, *made)]
        self._call("next_token", logits.data_ptr(), rows, words, logits.stride(0), *pointers)
        return made

    def _call(self, name: str, *arguments: Any) -> None:
        if self._functions[name](*arguments, torch.get_num_threads()):
            raise MemoryError(f"no memory for what '{name}' holds while it runs")


def reads(*tensors: torch.Tensor) -> bool:
    """Tell whether tensors are as the functions read them: float32, on the processor, in runs.

    Parameters
    ----------
    *tensors : Tensor
        Activity, or where it goes.

    Returns
    -------
    bool
        Whether all are.
    """
    return all(
        tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and (tensor.stride(-1) == 1 or tensor.shape[-1] == 1)
        for tensor in tensors
    )


def norms(values: torch.Tensor) -> torch.Tensor:
    """Euclidean norms over the last dimension, on any device.

    Parameters
    ----------
    values : Tensor of shape (batch, tokens, heads, size)
        Activity.

    Returns
    -------
    Tensor of shape (batch, tokens, heads), float32
        The norms.
    """
    reductions = load_reductions() if reads(values) else None
    if reductions is None:
        return values.float().norm(dim=-1)
    return reductions.norms(values)


@cache
def load_reductions() -> Reductions | None:
    """Build the functions unless that was done before.

    Returns
    -------
    Reductions or None
        Those of the set of instructions that torch uses; None, with a warning that says why, where
        they cannot be built or loaded.
    """
    capability = torch.backends.cpu.get_cpu_capability()
    found = [name for begin, name in SETS.items() if capability.startswith(begin)]
    try:
        library = ctypes.CDLL(str(built(REDUCTIONS)))
        return Reductions(library, found[0] if found else "portable")
    except (BuildError, OSError) as error:
        warnings.warn(
            f"{error} Recording reduces by torch: results are right, and it takes longer.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def what_reduces(device: torch.device) -> str:
    """Say what reduces activity on a device: the last bits of a recording depend on it.

    Parameters
    ----------
    device : device
        Where activity is.

    Returns
    -------
    str
        ``torch``, or the set of instructions of the functions here: ``avx512``, ``avx2`` or
        ``portable``.
    """
    reductions = load_reductions() if device.type == "cpu" else None
    return "torch" if reductions is None else reductions.instructions


def _numbers(*values: int) -> ctypes.Array[ctypes.c_int64]:
    return (INTEGER * len(values))(*values)
