"""What lies between the products of few rows: norms, turned queries and attention, a call each.

Weights that stream past push all else out of the caches, so that beside products that skip a small
operation of torch costs some fifteen microseconds: seven for a norm, fourteen to turn queries and
keys. Both are replaced only where the model's own code is that of Llama, which transformers copies
from model to model; others (Gemma's norms, those of GPT-OSS, LayerNorm) are left alone. Where the
package ``kernels`` has put other functions in the place of Llama's, these are left too. Attention
of one token that sees all keys is replaced where the model asks for ``sdpa`` of transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import CodeType, FunctionType, MethodType

from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface
from transformers.models.llama import modeling_llama as llama

from lmri.anatomy import STANDS_FOR, attentions
from lmri.errors import SparseError
from lmri.sparse.kernels.cpu import Cpu
from lmri.sparse.runtime.products import Tools

ROTARY = "apply_rotary_pos_emb"
INTERFACES = "ALL_ATTENTION_FUNCTIONS"
CHOOSE = "get_interface"
IGNORED = {"is_causal", "output_router_logits", "position_ids", "sliding_window", "use_cache"}
"""Options that change nothing for one token without a mask; the mask holds what a window hides."""

UNSET = {"cache", "encoder_hidden_states", "position_bias", "softcap"}
"""Options that change nothing where they are None."""

# As they were when this was imported: what a model calls may be replaced later, in Llama's too.
NORM = llama.LlamaRMSNorm.forward
TURN = llama.apply_rotary_pos_emb
HALF = llama.rotate_half

Forwards = dict[nn.Module, Callable[..., object]]


def norm_forwards(tools: Tools, model: nn.Module) -> Forwards:
    """Give what replaces the forwards of root-mean-square norms.

    Parameters
    ----------
    tools : Tools
        Of the session.
    model : torch.nn.Module
        The model.

    Returns
    -------
    dict of torch.nn.Module to callable
        By module; none on other backends than ``cpu``.
    """
    kernel = tools.kernel
    if not isinstance(kernel, Cpu):
        return {}
    norms = [module for module in model.modules() if same_code(type(module).forward, NORM)]
    return {norm: _norm(tools, kernel, norm) for norm in norms if "forward" not in vars(norm)}


def attention_forwards(tools: Tools, model: nn.Module) -> Forwards:
    """Give what replaces the forwards of modules of attention.

    They are the model's own, in which names stand for other functions: what turns queries and keys
    by their positions, and what gives the function of attention.

    Parameters
    ----------
    tools : Tools
        Of the session.
    model : torch.nn.Module
        The model.

    Returns
    -------
    dict of torch.nn.Module to callable
        By module; none on other backends than ``cpu``.
    """
    kernel = tools.kernel
    if not isinstance(kernel, Cpu):
        return {}
    found: Forwards = {}
    for module in attentions(model).values():
        own = type(module).forward
        code = getattr(own, "__code__", None)
        if code is None or "forward" in vars(module):
            continue
        names, changed = own.__globals__, {}
        if ROTARY in code.co_names and turns_as_llama(names.get(ROTARY)):
            changed[ROTARY] = _rotary(tools, kernel, names[ROTARY])
        interfaces = names.get(INTERFACES)
        if CHOOSE in code.co_names and isinstance(interfaces, AttentionInterface):
            changed[INTERFACES] = _Interfaces(interfaces, _instead(tools, kernel))
        if changed:
            forward = FunctionType(
                code, names | changed, own.__name__, own.__defaults__, own.__closure__
            )
            forward.__kwdefaults__ = own.__kwdefaults__
            found[module] = MethodType(forward, module)
    return found


@contextmanager
def attending_alone(tools: Tools, model: nn.Module) -> Iterator[None]:
    """Let those who wrap functions of attention call what stands for them too.

    Observers of attention and changes of its patterns run the function of the model: its bits must
    not depend on whether somebody looks.

    Parameters
    ----------
    tools : Tools
        Of the session.
    model : torch.nn.Module
        The model.
    """
    kernel = tools.kernel
    modules = attentions(model).values() if isinstance(kernel, Cpu) else ()
    for module in modules:
        setattr(module, STANDS_FOR, _instead(tools, kernel))
    try:
        yield
    finally:
        for module in modules:
            delattr(module, STANDS_FOR)


def same_code(one: object, other: object) -> bool:
    """Tell whether functions do the same by themselves.

    Parameters
    ----------
    one, other : object
        What may be functions.

    Returns
    -------
    bool
        Whether both are, of the same instructions, names, constants and defaults.
    """
    # Nothing that only looks like a function: there are wrappers that show the code of another.
    if not type(one) is type(other) is FunctionType:
        return False
    same = _instructions(one.__code__) == _instructions(other.__code__)
    return same and one.__defaults__ == other.__defaults__


def turns_as_llama(turn: object) -> bool:
    """Tell whether a function turns queries and keys as that of Llama.

    Parameters
    ----------
    turn : object
        What may be a function.

    Returns
    -------
    bool
        Whether its code, and that of the function it calls by name, are those of Llama's.
    """
    return same_code(turn, TURN) and same_code(turn.__globals__.get(HALF.__name__), HALF)


def _instructions(code: CodeType) -> tuple:
    return code.co_code, code.co_names, code.co_consts[1:]


def _norm(tools: Tools, kernel: Cpu, module: nn.Module) -> Callable[[Tensor], Tensor]:
    own, epsilon = module.forward, module.variance_epsilon

    def forward(x: Tensor) -> Tensor:
        now, weight = tools.now(), module.weight
        # Of every head a row, where heads are normalised.
        few = now is not None and now.few and x.dtype is weight.dtype
        return kernel.rms_norm(x, weight, epsilon) if few else own(x)

    return forward


def _rotary(tools: Tools, kernel: Cpu, own: Callable) -> Callable[..., tuple[Tensor, Tensor]]:
    def turned(
        q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *others: object, **options: object
    ) -> tuple[Tensor, Tensor]:
        now = tools.now()
        plain = not others and not options and q.dtype is k.dtype is cos.dtype is sin.dtype
        if now is None or not now.few or not plain:
            return own(q, k, cos, sin, *others, **options)
        return kernel.rotary(q, k, cos, sin)

    return turned


class _Interfaces(AttentionInterface):
    """Functions of attention by name, where others stand for some."""

    def __init__(self, own: AttentionInterface, instead: Mapping[Callable, Callable]) -> None:
        super().__init__()
        self._local_mapping = own._local_mapping
        self._instead = instead

    def get_interface(self, attn_implementation: str, default: Callable) -> Callable:
        """Find a function of attention, or what stands for it."""
        found = super().get_interface(attn_implementation, default)
        return self._instead.get(found, found)


def _instead(tools: Tools, kernel: Cpu) -> dict[Callable, Callable]:
    return {sdpa_attention_forward: _attend(tools, kernel)}


def _attend(tools: Tools, kernel: Cpu) -> Callable[..., tuple[Tensor, None]]:
    def attended(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **options: object,
    ) -> tuple[Tensor, None]:
        now = tools.now()
        plain = attention_mask is None and scaling is not None and not dropout
        if plain and now is not None and now.few and query.shape[2] == 1 and _ignored(options):
            # What the kernel refuses (dtypes or batches that differ), torch may take.
            with suppress(SparseError, RuntimeError):
                return kernel.attend(query, key, value, scaling), None
        given = module, query, key, value, attention_mask, dropout, scaling
        return sdpa_attention_forward(*given, **options)

    return attended


def _ignored(options: Mapping[str, object]) -> bool:
    """Whether options change nothing for one token without a mask."""
    return options.keys() <= IGNORED or all(
        name in IGNORED or (name in UNSET and option is None) for name, option in options.items()
    )
