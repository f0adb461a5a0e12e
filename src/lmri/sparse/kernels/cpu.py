"""Products in C++ that read only the weights they need.

The sources beside this module are built on first use (:mod:`lmri.native`) and
registered as ``torch.ops.lmri_sparse``, so that ``torch.compile`` can see them. Instructions are
chosen when the program runs (AVX-512, AVX2, else whatever the compiler assumes), and threads are
torch's own, as many as ``torch.get_num_threads()``.

Input-sparse sums are split into a number of parts that depends on how many channels are active (in
a whole MLP, on how many neurons there are) and not on the threads, and parts are added up in pairs
of neighbours, whoever computed them: the same call gives the same bits with any number of threads.
Bits differ from those of a batch that holds the same row, and between machines with and without
fused multiplication. At most 16 threads find work in one such product, and they share 16 sums of
every row: 0.5 MB a thousand outputs with 8 rows, kept by the thread that calls. In attention every
thread keeps what the weights of one head take.

Copies that ``transposed`` makes lie in large pages, where Linux lends them on advice: rows chosen
at random are then read several per cent faster. ``benchmarks/sparse.py`` measures how fast weights
are read: from seven tenths of the pace of a plain sum (bfloat16, where the sum is fast) to 1.4 of
it, as the machine has it.

Clang builds the kernels only where it comes with its OpenMP and that fits torch's; g++ always fits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lmri.errors import BuildError
from lmri.native import built
from lmri.sparse.kernels.build import KERNELS
from lmri.sparse.kernels.checks import (
    check_append,
    check_attend,
    check_attention_added,
    check_attention_inputs,
    check_input_listed,
    check_input_sparse,
    check_output_sparse,
    check_rms_norm,
    check_rotary,
    check_sparse_mlp,
    check_transposed,
    check_whole_mlp,
)
from lmri.sparse.kernels.interface import Backend
from lmri.sparse.kernels.reference import Reference

OPERATORS = torch.ops.lmri_sparse


class Cpu:
    """Backend in C++; made by :func:`load_cpu`. See :class:`lmri.sparse.kernels.Backend`."""

    name = "cpu"
    device = "cpu"

    def transposed(self, weight: Tensor) -> Tensor:
        """Copy into large pages, where the system has them."""
        check_transposed(weight, self.device)
        return OPERATORS.transposed(weight)

    def input_sparse(
        self, x: Tensor, weight_t: Tensor, threshold: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """List the active channels and add up their weights."""
        return _checked(OPERATORS.input_sparse, check_input_sparse, x, weight_t, threshold, bias)

    def input_listed(
        self, x: Tensor, weight_t: Tensor, index: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Add up the weights of the channels listed, and of no other."""
        return _checked(OPERATORS.input_listed, check_input_listed, x, weight_t, index, bias)

    def output_sparse(
        self, x: Tensor, weight: Tensor, index: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Multiply the rows named, and no other."""
        return _checked(OPERATORS.output_sparse, check_output_sparse, x, weight, index, bias)

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
        """List the active neurons once and go through both weights by that list."""
        arguments = (a, x, weight_up, weight_down_t, threshold, bias_up, bias_down)
        if weight_up is not None:
            return _checked(OPERATORS.sparse_mlp, check_sparse_mlp, *arguments)
        check_sparse_mlp(*arguments, self.device)
        return OPERATORS.input_sparse(a, weight_down_t, threshold, bias_down)

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
        """Take a few neurons at a time all the way: no product waits for another to end."""
        weights = weight_in, weight_up, weight_down_t
        biases = bias_in, bias_up, bias_down
        operator = OPERATORS.whole_mlp
        return _checked(operator, check_whole_mlp, x, *weights, activation, threshold, *biases)

    def rms_norm(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Divide rows by the root of the mean of their squares, and multiply them by weights.

        As the modules of transformers do it (Zhang & Sennrich 2019, arXiv:1910.07467): in float32,
        and rounded to the dtype of ``x`` before the weights and after. No product of a sparse
        plan, but what lies between them: of seven operations it makes one.

        Parameters
        ----------
        x : Tensor of shape (..., n)
            Rows, as many as there are: one thread takes them.
        weight : Tensor of shape (n,)
            Weights, of the dtype of ``x``.
        epsilon : float
            Added to the mean.

        Returns
        -------
        Tensor of the shape and dtype of ``x``
            The rows.
        """
        return _checked(OPERATORS.rms_norm, check_rms_norm, x, weight, epsilon)

    def rotary(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Turn queries and keys by their positions (Su et al. 2021, arXiv:2104.09864).

        As the modules of transformers do it, to the bit: channel i and that half a head further
        are a pair, and every product is rounded to the dtype of the queries.

        Parameters
        ----------
        q : Tensor of shape (batch, heads, tokens, size)
            Queries.
        k : Tensor of shape (batch, key_heads, tokens, size)
            Keys.
        cos, sin : Tensor of shape (batch or 1, tokens, size)
            Of the angles, of the dtype of queries and keys.

        Returns
        -------
        q, k : Tensor of the shape of queries and of keys
            Turned.
        """
        return _checked(OPERATORS.rotary, check_rotary, q, k, cos, sin)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """Attend from one token to all keys (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

        In float32, rounded once.

        Parameters
        ----------
        q : Tensor of shape (batch, heads, 1, size)
            Queries.
        k : Tensor of shape (batch, key_heads, keys, size)
            Keys; neighbouring heads of queries share one.
        v : Tensor of shape (batch, key_heads, keys, value_size)
            Values.
        scaling : float
            Scores are multiplied with it.

        Returns
        -------
        Tensor of shape (batch, 1, heads, value_size)
            Outputs of the heads.
        """
        return _checked(OPERATORS.attend, check_attend, q, k, v, scaling)

    def append(
        self, keys: Tensor, values: Tensor, new_keys: Tensor, new_values: Tensor, filled: int
    ) -> None:
        """Write keys and values of new tokens into a cache, behind those that are there.

        Parameters
        ----------
        keys, values : Tensor of shape (batch, key_heads, room, size)
            Memory of the cache.
        new_keys, new_values : Tensor of shape (batch, key_heads, tokens, size)
            New ones, of the same dtype.
        filled : int
            Tokens that are there.
        """
        _checked(OPERATORS.append, check_append, keys, values, new_keys, new_values, filled)

    def attention_inputs(
        self,
        x: Tensor,
        norm: Tensor,
        epsilon: float,
        weights_t: Sequence[Tensor],
        thresholds: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        cos: Tensor,
        sin: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Make queries, keys and values, from the residual stream to what a cache takes.

        To the bit what :meth:`rms_norm`, :meth:`input_sparse` three times and :meth:`rotary` make.

        Parameters
        ----------
        x : Tensor of shape (batch, tokens, hidden)
            The residual stream.
        norm : Tensor of shape (hidden,)
            Weights of the norm before attention.
        epsilon : float
            That of the norm.
        weights_t : sequence of Tensor of shape (hidden, heads * size or key_heads * size)
            Of queries, keys and values.
        thresholds : sequence of Tensor of shape () or (hidden,), float32
            Channels of the norm's output that do not exceed them are skipped.
        biases : sequence of Tensor of shape (heads * size or key_heads * size,), or None
            Added.
        cos, sin : Tensor of shape (batch or 1, tokens, size)
            Of the angles by which queries and keys are turned.

        Returns
        -------
        q : Tensor of shape (batch, heads, tokens, size)
            Queries, turned.
        k, v : Tensor of shape (batch, key_heads, tokens, size)
            Keys, turned, and values.
        """
        operator, products = OPERATORS.attention_inputs, (weights_t, thresholds, biases)
        return _checked(operator, check_attention_inputs, x, norm, epsilon, *products, cos, sin)

    def attention_added(
        self,
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
    ) -> tuple[Tensor, Tensor]:
        """Attend from one token to all keys, and add the result to the residual stream.

        To the bit what :meth:`attend` and :meth:`input_sparse` make, added, and :meth:`rms_norm`.

        Parameters
        ----------
        residual : Tensor of shape (batch, 1, hidden)
            The residual stream.
        q, k, v, scaling
            Those of :meth:`attend`.
        weight_t : Tensor of shape (heads * value_size, hidden)
            Of the output projection.
        threshold : Tensor of shape () or (heads * value_size,), float32
            Channels of the heads that do not exceed it are skipped.
        bias : Tensor of shape (hidden,), or None
            Added.
        norm : Tensor of shape (hidden,)
            Weights of the norm after attention.
        epsilon : float
            That of the norm.

        Returns
        -------
        residual : Tensor of shape (batch, 1, hidden)
            The residual stream after attention.
        normed : Tensor of shape (batch, 1, hidden)
            Its norm.
        """
        operator, product = OPERATORS.attention_added, (weight_t, threshold, bias)
        given = residual, q, k, v, scaling, *product, norm, epsilon
        return _checked(operator, check_attention_added, *given)


def _checked(
    operator: Callable[..., Any],
    check: Callable[..., None],
    *arguments: Tensor | Sequence[Tensor | None] | str | float | int | None,
) -> Any:
    """Run an operator; where it refuses its arguments, say in words what is wrong with them.

    The operators see to it themselves that no argument leads them outside of memory. To look at
    every argument in Python before takes as long as a small product.
    """
    try:
        return operator(*arguments)
    except (RuntimeError, IndexError):
        check(*arguments, Cpu.device)
        raise


@cache
def load_cpu() -> Backend:
    """Build the kernels unless that was done before, and register them.

    Returns
    -------
    Backend
        ``cpu``; where it cannot be built or loaded ``reference``, with a warning that says why.
    """
    try:
        torch.ops.load_library(str(built(KERNELS)))
    except (BuildError, OSError) as error:
        warnings.warn(
            f"{error} Sparse products run on the backend 'reference': results are right, and "
            "nothing is faster.",
            RuntimeWarning,
            stacklevel=2,
        )
        return Reference()
    for name, make in FAKES.items():
        torch.library.register_fake(f"lmri_sparse::{name}", make)
    return Cpu()


def _fake_input(x: Tensor, weight_t: Tensor, choice: Tensor, bias: Tensor | None) -> Tensor:
    return _like(x, weight_t.shape[1], weight_t, choice, bias)


def _fake_output(x: Tensor, weight: Tensor, index: Tensor, bias: Tensor | None) -> Tensor:
    return _like(x, weight.shape[0], weight, index, bias)


def _fake_mlp(
    a: Tensor, x: Tensor, weight_up: Tensor, weight_down_t: Tensor, *others: Tensor | None
) -> Tensor:
    return _like(a, weight_down_t.shape[1], x, weight_up, weight_down_t, *others)


def _fake_whole_mlp(
    x: Tensor,
    weight_in: Tensor,
    weight_up: Tensor | None,
    weight_down_t: Tensor,
    activation: str,
    *others: Tensor | None,
) -> tuple[Tensor, Tensor]:
    given = weight_in, weight_up, weight_down_t, *others
    return _like(x, weight_down_t.shape[1], *given), _like(x, len(weight_in))


def _like(x: Tensor, size: int, *others: Tensor | None) -> Tensor:
    """Refuse tensors that have no values, unless they stand for some on the processor."""
    if any(given is not None and given.device.type != Cpu.device for given in (x, *others)):
        raise RuntimeError("all tensors must be on the CPU")
    return x.new_empty((*x.shape[:-1], size))


def _fake_rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return _like(x, x.shape[-1], weight)


def _fake_rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return _like(q, q.shape[-1], cos, sin), _like(k, k.shape[-1])


def _fake_attend(q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    return _like(q.transpose(1, 2), v.shape[3], k, v)


def _fake_append(
    keys: Tensor, values: Tensor, new_keys: Tensor, new_values: Tensor, filled: int
) -> None:
    _like(keys, keys.shape[-1], values, new_keys, new_values)


def _fake_attention_inputs(
    x: Tensor,
    norm: Tensor,
    epsilon: float,
    weights_t: Sequence[Tensor],
    thresholds: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    cos: Tensor,
    sin: Tensor,
) -> tuple[Tensor, ...]:
    shape, others = (*x.shape[:2], -1, cos.shape[-1]), (norm, *thresholds, *biases, cos, sin)
    made = (_like(x, w.shape[1], w, *others).view(shape).transpose(1, 2) for w in weights_t)
    q, k, v = made
    return _like(q, q.shape[-1]), _like(k, k.shape[-1]), v


def _fake_attention_added(
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
) -> tuple[Tensor, Tensor]:
    stream = _like(residual, residual.shape[-1], q, k, v, weight_t, threshold, bias, norm)
    return stream, _like(stream, stream.shape[-1])


def _fake_transposed(weight: Tensor) -> Tensor:
    return weight.new_empty(weight.mT.shape)


FAKES: dict[str, Callable[..., Any]] = {
    "input_sparse": _fake_input,
    "input_listed": _fake_input,
    "output_sparse": _fake_output,
    "sparse_mlp": _fake_mlp,
    "whole_mlp": _fake_whole_mlp,
    "rms_norm": _fake_rms_norm,
    "rotary": _fake_rotary,
    "attend": _fake_attend,
    "append": _fake_append,
    "attention_inputs": _fake_attention_inputs,
    "attention_added": _fake_attention_added,
    "transposed": _fake_transposed,
}
"""What tells the shape of a product from its arguments, by operator."""
