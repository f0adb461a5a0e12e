"""One projection under its rules, and the modules that hold projections of attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmri.anatomy.linears import Projection
from lmri.errors import SparseError
from lmri.sparse.kernels import MOST_ROWS, Backend
from lmri.sparse.masks import channels_read
from lmri.sparse.rules import InputThreshold, InputTopK
from lmri.sparse.runtime.counts import Counts, real_rows, real_sum, ruled_rows, ruled_sum
from lmri.sparse.runtime.passes import Pass
from lmri.sparse.runtime.weights import Weights, lies_by_output, packed_bias

InputRule = InputThreshold | InputTopK


@dataclass(frozen=True)
class Tools:
    """What all parts of a session share.

    Attributes
    ----------
    kernel : Backend
        Products that skip.
    weights : Weights
        Weights as these read them.
    counts : Counts
        What is counted.
    now : callable
        Gives the pass that runs.
    """

    kernel: Backend
    weights: Weights
    counts: Counts
    now: Callable[[], Pass]


class Product:
    """The product of few or many rows with the weights of one projection.

    Parameters
    ----------
    tools : Tools
        Of the session.
    part : Projection
        The projection.
    rule : InputThreshold or InputTopK, optional
        Channels that are read.
    expert : int, optional
        Which, of experts.
    outputs, inputs : Tensor of shape (n,), int64, optional
        Those that exist: weights are packed to them.
    skips_zeros : bool
        Whether zeros in the input are to be skipped even without a rule.
    by_output : bool
        Whether outputs are read one by one: because only some may be needed, or by a kernel that
        takes neurons all the way.
    """

    def __init__(
        self,
        tools: Tools,
        part: Projection,
        rule: InputRule | None = None,
        *,
        expert: int | None = None,
        outputs: Tensor | None = None,
        inputs: Tensor | None = None,
        skips_zeros: bool = False,
        by_output: bool = False,
    ) -> None:
        self.kernel, self.counts, self.part = tools.kernel, tools.counts, part
        self.bias = packed_bias(part, expert, outputs)
        which = expert, outputs, inputs
        device = part.matrix.device
        self.rule = None if rule is None else _of_these(rule, expert, inputs, device)
        self.weight_t: Tensor | None = None
        self.every: Tensor | None = None
        # A copy may as well lie by its outputs: they need no sums beside the result.
        free = inputs is None and (outputs is not None or lies_by_output(part, expert))
        if tools.kernel.name == "reference":
            self.weight = tools.weights.view(part, *which)
        elif rule is None and (by_output or (free and not skips_zeros)):
            self.weight = tools.weights.by_output(part, *which)
            self.every = torch.arange(len(self.weight), device=device)
        else:
            self.weight_t = tools.weights.by_input(part, *which)
            self.weight = self.weight_t.T
        self.zero = torch.zeros((), device=device)
        self.quick = self._quick()

    def __call__(
        self, x: Tensor, now: Pass, outputs: Tensor | None = None, inputs: Tensor | None = None
    ) -> Tensor:
        """Multiply.

        Parameters
        ----------
        x : Tensor of shape (rows, n_inputs)
            Channels that exist.
        now : Pass
            The pass.
        outputs : Tensor of shape (rows, n_outputs), bool, optional
            Outputs that are needed; what the others are is not defined.
        inputs : Tensor of shape (rows, n_inputs), bool, optional
            Channels that are not 0 already, for the counts.

        Returns
        -------
        Tensor of shape (rows, n_outputs)
            Outputs that exist.
        """
        quick = None if outputs is not None and self.every is not None else self.quick
        if quick is not None and now.few and not self.counts.enabled:
            return quick(x)
        ruled = self.rule is not None and not now.dense
        keep = None
        if ruled:
            keep = channels_read(self.rule, x)
            if now.exempt is not None:
                keep |= now.exempt
        if self.counts.enabled:
            if ruled:
                self._count_rule(keep, now)
            read = inputs if keep is None else keep if inputs is None else keep & inputs
            self.count(now, outputs, read)
        if not now.few or now.dense or not self.weight.numel():
            return F.linear(x if keep is None else x.masked_fill(~keep, 0), self.weight, self.bias)
        if quick is not None:
            return quick(x)
        if keep is not None:
            x = x.masked_fill(~keep, 0)
            return self.kernel.input_sparse(x, self.weight_t, self.zero, self.bias)
        named = outputs.any(dim=0).nonzero()[:, 0]
        return self.kernel.output_sparse(x, self.weight, named, self.bias)

    def count(self, now: Pass, outputs: Tensor | None, inputs: Tensor | None) -> None:
        """Count the weights that were needed; masks as above, None for all that exist."""
        rows = real_rows(now)
        n_out, n_in = self.weight.shape
        if outputs is None and inputs is None:
            read = rows * n_out * n_in
        elif outputs is None:
            read = real_sum(inputs, now) * n_out
        elif inputs is None:
            read = real_sum(outputs, now) * n_in
        else:
            both = outputs.sum(dim=1) * inputs.sum(dim=1)
            read = (both if now.real is None else both[now.real]).sum()
        part = self.part
        self.counts.add_projection(now, part.layer, part.name, rows * part.parameters, read)

    def _quick(self) -> Callable[[Tensor], Tensor] | None:
        """What multiplies few rows where nothing but them has to be known: one call."""
        if self.kernel.name == "reference" or not self.weight.numel():
            return None
        if self.every is not None:
            return partial(
                self.kernel.output_sparse, weight=self.weight, index=self.every, bias=self.bias
            )
        if isinstance(self.rule, InputTopK):
            return None
        threshold = self.zero if self.rule is None else self.rule.threshold
        return partial(
            self.kernel.input_sparse, weight_t=self.weight_t, threshold=threshold, bias=self.bias
        )

    def _count_rule(self, keep: Tensor, now: Pass) -> None:
        units = ruled_rows(now) * keep.shape[1]
        part, name = self.part, self.rule.name
        self.counts.add_rule(now, part.layer, name, part.name, units, ruled_sum(keep, now))


def _of_these(
    rule: InputRule, expert: int | None, inputs: Tensor | None, device: torch.device
) -> InputRule:
    """Make a rule for one expert, and for the inputs that exist."""

    def chosen(values: Tensor) -> Tensor:
        values = values.detach().to(device)
        if values.dim() == 2:
            values = values[expert]
        return (values if inputs is None or values.dim() == 0 else values[inputs]).contiguous()

    if isinstance(rule, InputThreshold):
        return replace(rule, threshold=chosen(rule.threshold))
    return rule if rule.scale is None else replace(rule, scale=chosen(rule.scale))


@dataclass(frozen=True)
class HeldPart:
    """A part of a module of attention: a product, and where its results go.

    Attributes
    ----------
    product : Product
        The product.
    rows : slice or Tensor of shape (n_outputs,), int64
        Outputs of the module.
    inputs : Tensor of shape (n_inputs,), int64, or None
        Channels of the module's input that exist; None for all.
    """

    product: Product
    rows: slice | Tensor
    inputs: Tensor | None


class AttentionLinear:
    """Stands for the forward of a module that holds one or more projections of attention.

    Parameters
    ----------
    tools : Tools
        Of the session.
    parts : sequence of HeldPart
        All that the module computes; outputs that none of them makes are 0.
    outputs : int
        Outputs of the module.
    """

    def __init__(self, tools: Tools, parts: Sequence[HeldPart], outputs: int) -> None:
        self.now, self.counts = tools.now, tools.counts
        self.parts = tuple(parts)
        self.outputs = outputs
        only = self.parts[0] if len(self.parts) == 1 else None
        whole = only is not None and isinstance(only.rows, slice) and only.rows == slice(None)
        self.only = only if whole else None
        self.quick = only.product.quick if whole and only.inputs is None else None

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply activations of shape (..., n_inputs)."""
        now = self.now()
        if self.quick is not None and not self.counts.enabled and is_few(now, x):
            return self.quick(x)
        flat = x.reshape(-1, x.shape[-1])
        now = check_rows(now, flat)
        if self.only is not None:
            y = _product_of(self.only, flat, now)
        else:
            y = flat.new_zeros(len(flat), self.outputs)
            for part in self.parts:
                y[:, part.rows] = _product_of(part, flat, now)
        return y.view(*x.shape[:-1], self.outputs)


def _product_of(part: HeldPart, x: Tensor, now: Pass) -> Tensor:
    return part.product(x if part.inputs is None else x[:, part.inputs], now)


def is_hooked(module: nn.Module) -> bool:
    """Tell whether somebody looks at what goes through a module, or changes it."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def is_few(now: Pass | None, x: Tensor) -> bool:
    """Tell whether activations of shape (..., n) are the few rows of the pass that runs."""
    return now is not None and now.few and x.shape[:-1].numel() == now.rows


def check_rows(now: Pass | None, x: Tensor) -> Pass:
    """Raise unless rows are those of the pass that runs.

    Parameters
    ----------
    now : Pass or None
        The pass.
    x : Tensor of shape (rows, n)
        Activations.

    Returns
    -------
    Pass
        The pass.

    Raises
    ------
    SparseError
        If a module of the model is called on its own.
    """
    if now is None or len(x) != now.rows:
        raise SparseError(
            "A module of a model under a sparse plan must be run by the whole model, which tells "
            f"the positions of its rows. Got {len(x)} rows on their own: call the model."
        )
    return now


class UnruledLinear:
    """Stands for the forward of a linear module that no rule touches.

    Few rows run on the kernel too: on a processor it reads weights faster than ``F.linear``, so
    that what is dense in a plan does not hold up the rest. Nothing is counted.

    Parameters
    ----------
    tools : Tools
        Of the session.
    part : Projection
        All that the module computes.
    """

    def __init__(self, tools: Tools, part: Projection) -> None:
        self.now, self.bias = tools.now, part.bias
        self.weight_t = tools.weights.by_input(part)
        self.most = MOST_ROWS * part.inputs
        zero = torch.zeros((), device=self.weight_t.device)
        self.quick = partial(
            tools.kernel.input_sparse, weight_t=self.weight_t, threshold=zero, bias=self.bias
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply activations of shape (..., n_inputs)."""
        now = self.now()
        few = now is not None and now.few and x.numel() <= self.most
        return self.quick(x) if few else F.linear(x, self.weight_t.T, self.bias)
