"""Blocks of Llama's code, in two calls around the cache and what their MLP takes.

A block of transformers calls a dozen modules and small operations beside its products, and weights
that stream past push the code of all of them out of the processor's caches: a tenth of the time of
a token. Two calls do the same to the bit: one from the residual stream to queries, keys and values,
one from what the cache of keys and values gives back to the residual stream. They are made on the
backend ``cpu`` where one token is decoded, without a mask and by ``sdpa``; where nothing is counted
(``count=False``); and where nobody looks at the modules of a block or changed them, and their code
is that of Llama. In all other cases a block runs its own code.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama import modeling_llama as llama

from lmri.anatomy import blocks
from lmri.errors import SparseError
from lmri.sparse.kernels.cpu import Cpu
from lmri.sparse.runtime.between import (
    IGNORED,
    INTERFACES,
    ROTARY,
    Forwards,
    same_code,
    turns_as_llama,
)
from lmri.sparse.runtime.cache import CacheBuffers
from lmri.sparse.runtime.passes import Pass
from lmri.sparse.runtime.products import Tools, is_few

# As they were when this was imported: what a model calls may be replaced later, in Llama's too.
CHECKPOINTING = llama.LlamaDecoderLayer.forward  # what transformers puts around forwards of blocks
BLOCK = getattr(CHECKPOINTING, "__wrapped__", None)
ATTENTION = llama.LlamaAttention.forward

ANGLES = "position_embeddings"
OPTIONS = IGNORED | {"attention_mask", "past_key_values", ANGLES}
"""Options of a block that decodes in two calls."""

OF_PRODUCT = "weight_t", "threshold", "bias"
"""Arguments of an input-sparse product, beside what is multiplied."""


def block_forwards(tools: Tools, model: nn.Module, forwards: Forwards) -> Forwards:
    """Give what replaces the forwards of blocks.

    Parameters
    ----------
    tools : Tools
        Of the session.
    model : torch.nn.Module
        The model.
    forwards : dict of torch.nn.Module to callable
        What replaces those of the modules in them.

    Returns
    -------
    dict of torch.nn.Module to callable
        By module; none on other backends than ``cpu``.
    """
    kernel = tools.kernel
    if not isinstance(kernel, Cpu):
        return {}
    shared = Shared(kernel, CacheBuffers(kernel), AttentionOfPass())
    return {
        block: LlamaBlock(tools, shared, block, forwards)
        for block in blocks(model)
        if _has_code_of_llama(block) and _has_quick_parts(block, forwards, kernel)
    }


class AttentionOfPass:
    """Finds by what function modules attend: once a pass where they agree, for it takes time."""

    def __init__(self) -> None:
        self._asked: tuple[object, ...] = ()
        self._function: Callable[..., object] | None = None

    def __call__(self, now: Pass, attention: nn.Module) -> Callable[..., object] | None:
        """Find the function of a module of attention.

        Parameters
        ----------
        now : Pass
            The pass that runs.
        attention : torch.nn.Module
            The module.

        Returns
        -------
        callable or None
            Of transformers; None where it is the module's own.
        """
        asked = now, attention.config, type(attention)
        if not self._asked or any(map(operator.is_not, asked, self._asked)):
            interfaces = type(attention).forward.__globals__[INTERFACES]
            name = attention.config._attn_implementation
            self._asked, self._function = asked, interfaces.get_interface(name, None)
        return self._function


@dataclass(frozen=True)
class Shared:
    """What all blocks of a session share.

    Attributes
    ----------
    kernel : Cpu
        Of the session.
    buffers : CacheBuffers
        Memory of caches of keys and values.
    function : AttentionOfPass
        By which the model attends.
    """

    kernel: Cpu
    buffers: CacheBuffers
    function: AttentionOfPass


class LlamaBlock:
    """Stands for the forward of a block.

    Parameters
    ----------
    tools : Tools
        Of the session.
    shared : Shared
        Of the session, too.
    block : torch.nn.Module
        The block.
    forwards : dict of torch.nn.Module to callable
        What replaces those of the modules in it.
    """

    def __init__(self, tools: Tools, shared: Shared, block: nn.Module, forwards: Forwards) -> None:
        self.now, self.counts, self.shared = tools.now, tools.counts, shared
        self.block = block
        self.norms = block.input_layernorm, block.post_attention_layernorm
        self.attention, self.mlp = block.self_attn, block.mlp
        linears = _linears(self.attention)
        held = (forwards[linear].quick.keywords for linear in linears)
        *into, self.output = ([each[name] for name in OF_PRODUCT] for each in held)
        self.products = list(zip(*into, strict=True))
        passed_by = *self.norms, self.attention, *linears
        self.untouched = Untouched(
            (block, self.attention), {module: forwards[module] for module in passed_by}
        )

    def __call__(self, hidden_states: Tensor, *others: object, **options: object) -> Tensor:
        """Run the block, by its own code unless it decodes as above.

        Parameters
        ----------
        hidden_states : Tensor of shape (batch, tokens, hidden)
            The residual stream.
        *others, **options
            Arguments of the block's own code.

        Returns
        -------
        Tensor of shape (batch, tokens, hidden)
            The residual stream after the block.
        """
        if not others and self._decodes(hidden_states, options):
            added = self._attended(hidden_states, options["past_key_values"], options[ANGLES])
            if added is not None:
                stream, normed = added
                return stream + self.mlp.forward(normed)
        # Found anew: a class, too, may be changed while it runs.
        return type(self.block).forward(self.block, hidden_states, *others, **options)

    def _decodes(self, x: Tensor, options: Mapping[str, object]) -> bool:
        """Whether one token is decoded without a mask, and nobody looks at the modules."""
        now, attention = self.now(), self.attention
        if not is_few(now, x) or now.tokens != 1 or self.counts.enabled or attention.training:
            return False
        given = options.get("past_key_values") is not None and options.get(ANGLES) is not None
        if not given or options.get("attention_mask") is not None or not options.keys() <= OPTIONS:
            return False
        return self.untouched() and self.shared.function(now, attention) is sdpa_attention_forward

    def _attended(
        self, x: Tensor, past: Cache, angles: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        """Residual stream after attention, and its norm; None where the kernel refuses."""
        (norm, after), attention = self.norms, self.attention
        if angles[0].shape[-1] != attention.head_dim or after.weight.dtype is not x.dtype:
            return None
        given = x, norm.weight, norm.variance_epsilon, *self.products, *angles
        try:
            q, k, v = self.shared.kernel.attention_inputs(*given)
        except (SparseError, RuntimeError):  # dtypes that differ, which torch may take
            return None
        k, v = self.shared.buffers.update(past, k, v, attention.layer_idx)
        scaling = attention.scaling
        try:
            given = x, q, k, v, scaling, *self.output, after.weight, after.variance_epsilon
            return self.shared.kernel.attention_added(*given)
        except (SparseError, RuntimeError):  # a cache that gives back others than it took
            heads, _ = sdpa_attention_forward(attention, q, k, v, None, scaling=scaling)
            added = x + attention.o_proj.forward(heads.flatten(2))
            return added, after.forward(added)


class Untouched:
    """Tells whether modules are as a session left them, and nobody looks at what they compute.

    Parameters
    ----------
    owners : sequence of torch.nn.Module
        Modules whose modules are meant.
    forwards : mapping of torch.nn.Module to callable
        Forwards that stand for those of some of them.
    """

    def __init__(
        self, owners: Sequence[nn.Module], forwards: Mapping[nn.Module, Callable[..., object]]
    ) -> None:
        self._parts = [(owner._modules, dict(owner._modules)) for owner in owners]
        self._classes = [(type(owner), type(owner).forward) for owner in owners]
        modules = [
            module for _, parts in self._parts for module in parts.values() if module is not None
        ]
        # Dictionaries of modules, so that to look takes less than a call.
        self._modules = [vars(module) for module in modules]
        self._forwards = [(vars(module), forward) for module, forward in forwards.items()]

    def __call__(self) -> bool:
        """Tell it.

        Returns
        -------
        bool
            Whether no module has a hook, which could be run (there are no gradients here, and so no
            backward hooks), or another module or forward in its place.
        """
        if torch_modules._global_forward_hooks or torch_modules._global_forward_pre_hooks:
            return False
        for own in self._modules:
            if own["_forward_hooks"] or own["_forward_pre_hooks"]:
                return False
        return (
            all(now == then for now, then in self._parts)
            and all(own.get("forward") is forward for own, forward in self._forwards)
            and all(own.forward is forward for own, forward in self._classes)
        )


def _linears(attention: nn.Module) -> tuple[nn.Module, ...]:
    return attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj


def _has_code_of_llama(block: nn.Module) -> bool:
    """Whether a block, its attention and how that turns queries are written as in Llama."""
    forward = type(block).forward
    if "forward" in vars(block) or not same_code(forward, CHECKPOINTING):
        return False
    if not _is_theirs(BLOCK, getattr(forward, "__wrapped__", None)):
        return False
    attend = type(block.self_attn).forward
    return _is_theirs(ATTENTION, attend) and turns_as_llama(attend.__globals__.get(ROTARY))


def _is_theirs(known: object, forward: object) -> bool:
    """Whether a forward is that of Llama, and that was not replaced before it was looked at."""
    return same_code(known, forward) and known.__code__.co_filename == llama.__file__


def _has_quick_parts(block: nn.Module, forwards: Forwards, kernel: Cpu) -> bool:
    """Whether norms and attention were replaced, and linear modules by a product each."""
    quick = [getattr(forwards.get(linear), "quick", None) for linear in _linears(block.self_attn)]
    others = {block.input_layernorm, block.post_attention_layernorm, block.self_attn}
    return others <= forwards.keys() and all(
        isinstance(product, partial) and product.func == kernel.input_sparse for product in quick
    )
