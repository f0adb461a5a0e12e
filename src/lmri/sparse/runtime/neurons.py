"""MLPs under rules: dense ones, shared experts, and one expert of many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import MethodType

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from lmri.anatomy.linears import Mlp, Projection
from lmri.sparse.masks import cut_gate, neurons_computed
from lmri.sparse.rules import GateCutoff, KeptNeurons, NeuronThreshold
from lmri.sparse.runtime.counts import real_rows, ruled_rows, ruled_sum
from lmri.sparse.runtime.passes import Pass
from lmri.sparse.runtime.products import InputRule, Product, Tools, check_rows, is_few, is_hooked
from lmri.sparse.runtime.weights import indices

KNOWN = {
    type(ACT2FN[theirs]): ours
    for theirs, ours in (
        ("silu", "silu"),
        ("swish", "silu"),
        ("gelu", "gelu"),
        ("gelu_pytorch_tanh", "gelu_tanh"),
        ("relu", "relu"),
    )
}
"""Classes of activation functions that kernels compute too, up to the last place, and their names
(:data:`lmri.sparse.kernels.ACTIVATIONS`)."""


@dataclass(frozen=True)
class MlpRules:
    """Rules of one place with neurons.

    Attributes
    ----------
    inputs : dict of str to InputThreshold or InputTopK
        By projection.
    threshold : NeuronThreshold or None
        Neurons that are computed.
    cutoff : GateCutoff or None
        What becomes of the gate.
    kept : dict of (int or None) to KeptNeurons
        Neurons that exist, by expert; None where there is but one MLP.
    """

    inputs: dict[str, InputRule] = field(default_factory=dict)
    threshold: NeuronThreshold | None = None
    cutoff: GateCutoff | None = None
    kept: dict[int | None, KeptNeurons] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self.inputs or self.threshold or self.cutoff or self.kept)


class SparseMlp:
    """An MLP whose neurons are skipped by rules.

    What exists (:class:`lmri.sparse.rules.KeptNeurons`) is packed: everything else here knows no
    other neurons, the mean of a statistical cut among it.

    Parameters
    ----------
    tools : Tools
        Of the session.
    mlp : Mlp
        The MLP.
    rules : MlpRules
        Its rules.
    expert : int, optional
        Which, of experts.
    """

    def __init__(self, tools: Tools, mlp: Mlp, rules: MlpRules, expert: int | None = None) -> None:
        self.tools, self.mlp, self.expert = tools, mlp, expert
        device = mlp.down.matrix.device
        kept = rules.kept.get(expert)
        self.kept = indices(None if kept is None else kept.neurons, device)
        self.cutoff = rules.cutoff
        self.rule = rules.threshold
        if self.rule is not None:
            threshold = self.rule.threshold.detach().to(device)
            threshold = threshold[expert] if threshold.dim() == 2 else threshold
            if self.kept is not None and threshold.dim():
                threshold = threshold[self.kept]
            self.rule = NeuronThreshold(mlp.layer, mlp.group, threshold.contiguous())
        self.selects = self.rule is not None or self.cutoff is not None
        some = self.selects or self.kept is not None
        plain = mlp.gate is None or mlp.product
        self.activation_name = self._activation_name(rules) if some and plain else None

        def product(part: Projection, **settings: Tensor | bool | None) -> Product:
            return Product(tools, part, rules.inputs.get(part.name), expert=expert, **settings)

        known = self.activation_name is not None
        chosen = known or (self.selects and mlp.gate is not None)
        self.gate = None
        if mlp.gate is not None:
            self.gate = product(mlp.gate, outputs=self.kept, by_output=known)
        self.up = product(mlp.up, outputs=self.kept, by_output=chosen)
        self.down = product(mlp.down, inputs=self.kept, skips_zeros=self.selects)
        fits = self.down.rule is None and (self.gate is None or self.up.rule is None)
        self.fused = some and fits and plain
        self.threshold = self.down.zero if self.rule is None else self.rule.threshold

    def __call__(self, x: Tensor, now: Pass) -> Tensor:
        """Compute what the MLP gives.

        Parameters
        ----------
        x : Tensor of shape (rows, hidden)
            Its input.
        now : Pass
            The pass.

        Returns
        -------
        Tensor of shape (rows, hidden)
            Its output.
        """
        if not (self.fused and now.few) or now.dense or not self.down.weight.numel():
            neurons, computed = self.neurons(x, now)
            return self.down(neurons, now, inputs=computed)
        first = self.gate or self.up
        weight, bias = (None, None) if self.gate is None else (self.up.weight, self.up.bias)
        if self._goes_at_once():
            y, a = self._at_once(x)
            if self.tools.counts.enabled:
                first.count(now, None, None)
        else:
            a = self._activation(first(x, now), now)
            read = None if self.gate is None else x
            down = self.down.weight_t, self.threshold, bias, self.down.bias
            y = self.tools.kernel.sparse_mlp(a, read, weight, *down)
        if self.tools.counts.enabled:
            computed = self._computed(a, now) if self.selects else None
            self.down.count(now, None, computed)
            if self.gate is not None:
                self.up.count(now, computed, None)
        return y

    def quick(self, x: Tensor, now: Pass | None) -> Tensor | None:
        """Compute what the MLP gives, where one call of the kernel does all there is to do.

        Parameters
        ----------
        x : Tensor of shape (..., hidden)
            Its input.
        now : Pass or None
            The pass.

        Returns
        -------
        Tensor of the shape of ``x``, or None
            Its output; None where it takes more than that call.
        """
        some = not self.tools.counts.enabled and self.down.weight.numel()
        return self._at_once(x)[0] if some and is_few(now, x) and self._goes_at_once() else None

    def neurons(self, x: Tensor, now: Pass) -> tuple[Tensor, Tensor | None]:
        """Compute neurons.

        Parameters
        ----------
        x : Tensor of shape (rows, hidden)
            Input of the MLP.
        now : Pass
            The pass.

        Returns
        -------
        neurons : Tensor of shape (rows, existing)
            0 where skipped.
        computed : Tensor of the same shape, bool, or None
            Those that were not skipped; None where all were computed.
        """
        a = self._activation((self.gate or self.up)(x, now), now)
        computed = self._computed(a, now) if self.selects and not now.dense else None
        if self.gate is not None:
            a = self.mlp.combine(a, self.up(x, now, outputs=computed))
        return a if computed is None else a.masked_fill(~computed, 0), computed

    def full(self, neurons: Tensor) -> Tensor:
        """Give all neurons from those that exist: (rows, neurons), 0 for the others."""
        if self.kept is None:
            return neurons
        everything = neurons.new_zeros(len(neurons), self.mlp.neurons)
        everything[:, self.kept] = neurons
        return everything

    def existing(self, neurons: Tensor) -> Tensor:
        """Give those that exist from all neurons."""
        return neurons if self.kept is None else neurons[:, self.kept]

    def count_kept(self, now: Pass) -> None:
        """Count neurons that exist, on the rows of a pass."""
        if self.kept is not None and self.tools.counts.enabled:
            rows, mlp = real_rows(now), self.mlp
            units, kept = rows * mlp.neurons, rows * len(self.kept)
            self.tools.counts.add_rule(now, mlp.layer, KeptNeurons.name, mlp.group, units, kept)

    def _activation_name(self, rules: MlpRules) -> str | None:
        """Name the activation function, where a kernel takes every neuron all the way by it.

        Such kernels read the first projection by its outputs: one that lies by its inputs would
        have to be copied.
        """
        if rules.inputs or self.cutoff is not None or self.mlp.split:
            return None
        read = [part for part in (self.mlp.gate, self.mlp.up) if part is not None]
        if self.kept is None and any(part.transposed for part in read):
            return None
        function = self.mlp.activation
        # One class of transformers has a second function, in steps that are rounded each.
        stepwise = isinstance(getattr(function, "act", None), MethodType)
        return None if stepwise else KNOWN.get(type(function))

    def _goes_at_once(self) -> bool:
        """Whether one call of the kernel computes the neurons, and nobody looks at them in it."""
        function = self.mlp.activation
        return self.activation_name is not None and not (
            is_hooked(function) or "forward" in vars(function)
        )

    def _at_once(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.gate or self.up
        up = None if self.gate is None else self.up
        return self.tools.kernel.whole_mlp(
            x,
            first.weight,
            None if up is None else up.weight,
            self.down.weight_t,
            self.activation_name,
            self.threshold,
            first.bias,
            None if up is None else up.bias,
            self.down.bias,
        )

    def _activation(self, gate: Tensor, now: Pass) -> Tensor:
        function = self.mlp.activation
        if self.cutoff is None or now.dense:
            return function(gate)
        cut = cut_gate(self.cutoff, gate, function)
        return cut if now.exempt is None else torch.where(now.exempt, function(gate), cut)

    def _computed(self, a: Tensor, now: Pass) -> Tensor:
        computed = a != 0 if self.rule is None else neurons_computed(self.rule, a)
        if now.exempt is not None:
            computed |= now.exempt
        if self.tools.counts.enabled:
            name = (self.rule or self.cutoff).name
            units, kept = ruled_rows(now) * a.shape[1], ruled_sum(computed, now)
            mlp = self.mlp
            self.tools.counts.add_rule(now, mlp.layer, name, mlp.group, units, kept)
        return computed


def mlp_forwards(sparse: SparseMlp) -> dict[nn.Module, Callable[..., Tensor]]:
    """Give what replaces the forwards of an MLP's modules.

    Whoever hooks the output projection, to record or to set neurons, finds them there: it is run as
    a module then, and so is the activation function where that is hooked.

    Parameters
    ----------
    sparse : SparseMlp
        Of a dense MLP or of shared experts.

    Returns
    -------
    dict of torch.nn.Module to callable
        By module.
    """
    mlp, now_of = sparse.mlp, sparse.tools.now
    reader = mlp.down.module

    def whole(x: Tensor) -> Tensor:
        now, hooked = now_of(), is_hooked(reader)
        y = None if hooked else sparse.quick(x, now)
        if y is not None:
            return y
        flat = x.reshape(-1, x.shape[-1])
        now = check_rows(now, flat)
        sparse.count_kept(now)
        y = reader(sparse.full(sparse.neurons(flat, now)[0])) if hooked else sparse(flat, now)
        return y.view(x.shape)

    def made(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        now = check_rows(now_of(), flat)
        sparse.count_kept(now)
        neurons = sparse.full(sparse.neurons(flat, now)[0])
        return neurons.view(*x.shape[:-1], -1)

    def read(neurons: Tensor) -> Tensor:
        flat = neurons.reshape(-1, neurons.shape[-1])
        now = check_rows(now_of(), flat)
        own = sparse.existing(flat)
        y = sparse.down(own, now, inputs=own != 0 if sparse.selects else None)
        return y.view(*neurons.shape[:-1], -1)

    return {mlp.module: made if mlp.split else whole, reader: read}
