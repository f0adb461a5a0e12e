"""What lies between the products of few rows: normalisations and turned queries, in one call each.

Weights that stream past push all else out of the caches, so that beside products that skip a small
operation of torch costs some fifteen microseconds: seven for a norm, fourteen to turn queries and
keys. Both are replaced only where the model's own code is that of Llama, which transformers copies
from model to model; others (Gemma's norms, those of GPT-OSS, LayerNorm) are left alone. Where the
package ``kernels`` has put other functions in the place of Llama's, these are left too.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, FunctionType, MethodType

from torch import Tensor, nn
from transformers.models.llama import modeling_llama as llama

from lmri.anatomy import attentions
from lmri.sparse.kernels.cpu import Cpu
from lmri.sparse.runtime.products import Tools

ROTARY = "apply_rotary_pos_emb"
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
    norms = [module for module in model.modules() if _same(type(module).forward, NORM)]
    return {norm: _norm(tools, kernel, norm) for norm in norms if "forward" not in vars(norm)}


def rotary_forwards(tools: Tools, model: nn.Module) -> Forwards:
    """Give what replaces the forwards of attention that turns queries and keys by their positions.

    It is the model's own forward, in which one name stands for another function.

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
        names = getattr(own, "__globals__", {})
        turn, code = names.get(ROTARY), getattr(own, "__code__", None)
        mine = code is not None and ROTARY in code.co_names and "forward" not in vars(module)
        if mine and _turns_as_llama(turn):
            changed = names | {ROTARY: _rotary(tools, kernel, turn)}
            forward = FunctionType(code, changed, own.__name__, own.__defaults__, own.__closure__)
            forward.__kwdefaults__ = own.__kwdefaults__
            found[module] = MethodType(forward, module)
    return found


def _same(one: object, other: object) -> bool:
    """Whether functions do the same by themselves: instructions, names, constants and defaults."""
    codes = [getattr(function, "__code__", None) for function in (one, other)]
    if not all(isinstance(code, CodeType) for code in codes):
        return False
    same = _instructions(codes[0]) == _instructions(codes[1])
    return same and one.__defaults__ == other.__defaults__


def _turns_as_llama(turn: object) -> bool:
    """Whether a function, and the one it calls by name, are those of Llama."""
    return _same(turn, TURN) and _same(turn.__globals__.get(HALF.__name__), HALF)


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
