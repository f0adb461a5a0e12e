"""One pass of many plans over the same texts; what no plan changes is computed once.

Up to the first layer that a plan touches a text is the same under the plan as without it. So every
text is run once as it is, and what goes into each block is kept; rows of texts and plans start at
the first layer that their plan touches. Where plans switch experts, the attention of that layer is
not run again either. In the last layer the MLP reads only the tokens whose logits are asked for.
Plans that do the same are one plan.

A model whose later blocks read more than the residual that they are handed (the tokens, say)
cannot be started in the middle: that is tried on the first texts, and where the logits are others
every row runs through all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from lmri.anatomy import (
    Subject,
    added_by_attention,
    added_by_mlp,
    blocks,
    equal_length_batches,
    routers,
)
from lmri.intervene.decoding import onset_margin
from lmri.intervene.plans import INTACT, AnyPlan
from lmri.intervene.points import changed_input
from lmri.intervene.routing import intervened
from lmri.intervene.session import trial_keys

LEAST_PLANS = 3
"""With fewer plans there is little to share."""

TRIED = 4
"""Texts that starting in the middle is tried on."""

CLOSE = 1e-3
"""Logits that differ by more than this share of the largest are others."""

CACHED = 1 << 18
"""Numbers of a residual that a cache holds: larger batches take longer for each row."""

LEAST_ROWS = 128
"""Rows of a batch that are worth more than the cache: the weights are read once for all of them."""

Span = tuple[torch.Tensor, torch.Tensor]
"""Position of every row's plan and text, int64."""


@dataclass(frozen=True)
class Passed:
    """Logits of some texts under some plans.

    Attributes
    ----------
    plans, texts : ndarray of shape (n_rows,), int64
        Position of every row's plan and text. Of plans that do the same only the first is run.
    logits : Tensor of shape (n_rows, n_kept, vocabulary)
        Of the last tokens.
    """

    plans: np.ndarray
    texts: np.ndarray
    logits: torch.Tensor


@dataclass(frozen=True)
class _Intact:
    """What texts of one length go through without a plan.

    ``states`` and ``attended`` are by layer: what the block is handed, (texts, tokens, hidden), and
    what its attention adds; ``extras`` is how many things more the attention returns.
    """

    states: dict[int, torch.Tensor]
    attended: dict[int, torch.Tensor]
    extras: dict[int, int]
    logits: torch.Tensor


def same_plans(plans: Sequence[AnyPlan]) -> np.ndarray:
    """Find plans that do the same: units and their numbers count, and not their order.

    Parameters
    ----------
    plans : sequence of Plan or Combined
        The plans.

    Returns
    -------
    ndarray of shape (n_plans,), int64
        For every plan the position of the first that does the same.
    """
    first: dict[object, int] = {}
    return np.array([first.setdefault(_deed(plan), i) for i, plan in enumerate(plans)])


def _deed(plan: AnyPlan) -> object:
    deeds = []
    for part in plan.parts:
        if part.units:
            numbers = part.values or [()] * len(part.units)
            units = frozenset(zip(part.units, numbers, strict=True))
            deeds.append((part.kind, part.mode, part.phase, units))
    return tuple(deeds)


def _first_layer(plan: AnyPlan, layers: int) -> int:
    """The first layer that a plan changes; the number of layers where it changes nothing."""
    if any(part.mode == "void" for part in plan.parts):
        return 0  # judged by all layers so far
    return min((unit[0] for unit in plan.units), default=layers)


@torch.inference_mode()
def passes(
    subject: Subject,
    texts: Sequence[Sequence[int]],
    prompts: Sequence[int],
    kept: Sequence[int],
    plans: Sequence[AnyPlan],
    rows: int,
) -> Iterator[Passed]:
    """Run every text under every plan, one pass each.

    The subject is under plans until the last is yielded: nothing else may run on it meanwhile.
    Memory does not grow with plans or texts: the states are kept of as many texts at once as make
    no more of them than a batch or two.

    Parameters
    ----------
    subject : Subject
        The subject.
    texts : sequence of sequence of int
        Token ids.
    prompts : sequence of int
        How many of the first tokens of every text are its prompt.
    kept : sequence of int
        For every text from how many of its last tokens logits are needed.
    plans : sequence of Plan or Combined
        The plans.
    rows : int
        Rows per forward pass, at most.

    Yields
    ------
    Passed
        Every text under every plan that does something else than those before it. The logits are
        those of a pass through all layers, to the bit where every product, also that of an expert,
        has four rows or more (fewer are rounded otherwise).
    """
    own = np.unique(same_plans(plans))
    layers = subject.anatomy.layers
    starts = np.array([_first_layer(plans[i], layers) for i in own])
    can_share = len(own) >= LEAST_PLANS
    at_once = max(1, rows // min(layers, len(own))) if can_share else rows
    keys = trial_keys(texts)
    for number, batch in enumerate(equal_length_batches([len(text) for text in texts], at_once)):
        ids = torch.tensor([texts[i] for i in batch], device=subject.device)
        keep, lengths = max(kept[i] for i in batch), torch.tensor([prompts[i] for i in batch])
        known = _run_intact(subject, ids, keep) if can_share else None
        if number == 0 and can_share:
            can_share = _can_start_within(subject, ids, known)
        for layer in np.unique(starts):
            chosen = own[starts == layer]
            acting = [plans[i] for i in chosen]
            with intervened(subject, acting) as session:
                for plan, text in _spans(len(chosen), len(batch), _rows_of(subject, ids, rows)):
                    session.rows, session.keys = (
                        part.to(subject.device) for part in (plan, keys[batch][text])
                    )
                    session.prompts = lengths[text]
                    session.first = torch.zeros_like(session.keys)
                    session.reached = session.first + ids.shape[1]
                    if not can_share:
                        logits = _all_layers(subject, ids[text.to(ids.device)], keep)
                    elif layer == layers:
                        logits = _rows(known.logits, text)
                    else:
                        reroutes = all(map(_only_reroutes, acting))
                        logits = _from_layer(subject, int(layer), ids, known, text, reroutes)
                    yield Passed(chosen[plan.numpy()], batch[text.numpy()], logits)


def _rows_of(subject: Subject, ids: torch.Tensor, rows: int) -> int:
    if subject.device.type != "cpu":
        return rows
    return min(rows, max(LEAST_ROWS, CACHED // (ids.shape[1] * subject.anatomy.hidden)))


def _only_reroutes(plan: AnyPlan) -> bool:
    return all(part.kind == "expert" and part.phase == "both" for part in plan.parts)


def _spans(plans: int, texts: int, rows: int) -> Iterator[Span]:
    """Every plan with every text, a batch at a time."""
    for start in range(0, plans * texts, rows):
        pairs = torch.arange(start, min(start + rows, plans * texts))
        yield pairs // texts, pairs % texts


def _all_layers(subject: Subject, ids: torch.Tensor, keep: int) -> torch.Tensor:
    return subject.model(input_ids=ids, use_cache=False, logits_to_keep=keep).logits


def _run_intact(subject: Subject, ids: torch.Tensor, keep: int) -> _Intact:
    """Run texts as they are and keep what blocks are handed and what attention adds."""
    states, attended, extras = {}, {}, {}

    def hold_state(layer: int, block: nn.Module, arguments: tuple, options: dict) -> None:
        states[layer] = arguments[0] if arguments else next(iter(options.values()))

    def hold_attended(layer: int, module: nn.Module, arguments: tuple, output: Any) -> None:
        first, *rest = output if isinstance(output, tuple) else (output,)
        attended[layer], extras[layer] = first, len(rest)

    with ExitStack() as stack:
        stack.enter_context(intervened(subject, [INTACT]))
        for layer, block in enumerate(blocks(subject.model)):
            hold = partial(hold_state, layer)
            hook = block.register_forward_pre_hook(hold, prepend=True, with_kwargs=True)
            stack.callback(hook.remove)
        for layer, module in added_by_attention(subject.model).items():
            hook = module.register_forward_hook(partial(hold_attended, layer), prepend=True)
            stack.callback(hook.remove)
        return _Intact(states, attended, extras, _all_layers(subject, ids, keep))


def _from_layer(
    subject: Subject,
    layer: int,
    ids: torch.Tensor,
    known: _Intact,
    texts: torch.Tensor,
    reroutes: bool,
) -> torch.Tensor:
    """Logits of texts that start at a layer with what it was handed.

    ``reroutes`` says that plans change nothing but the choice of experts: then attention adds in
    that layer what it did before, and tokens whose logits are not needed need no MLP in the last.
    """
    model, keep, last = subject.model, known.logits.shape[1], subject.anatomy.layers - 1
    state = _rows(known.states[layer], texts)
    with ExitStack() as stack:
        stack.enter_context(changed_input(blocks(model)[layer], lambda _: state))
        attention, mlp = added_by_attention(model).get(layer), added_by_mlp(model).get(last)
        if reroutes and layer in known.attended:
            added = _rows(known.attended[layer], texts), *[None] * known.extras[layer]
            given = added if len(added) > 1 else added[0]
            stack.enter_context(_replaced(attention, lambda *_, **__: given))
        if reroutes and mlp is not None and routers(model).get(last) in list(mlp.modules()):
            stack.enter_context(_replaced(mlp, partial(_last_tokens, mlp.forward, keep)))
        # The layers before are run on one row: what comes from there besides the state (masks,
        # positions) is the same for all texts of a length.
        return _all_layers(subject, ids[:1], keep)


def _last_tokens(forward: Callable[..., Any], keep: int, state: torch.Tensor) -> Any:
    """Run an MLP on the last tokens only; it adds nothing to the others."""
    # Some MLPs view their input in another shape, which a part of several rows does not allow.
    output = forward(state[:, -keep:].contiguous())
    first, *rest = output if isinstance(output, tuple) else (output,)
    added = torch.zeros_like(state)
    added[:, -keep:] = first
    return (added, *rest) if rest else added


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module do something else; its hooks stay, and so does a forward somebody put there."""
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def _can_start_within(subject: Subject, ids: torch.Tensor, known: _Intact) -> bool:
    """Whether texts that start in the second and in the last layer end as they should."""
    texts = torch.arange(min(TRIED, len(ids)))
    others = ids.roll(1, dims=1)  # no token where it was
    wanted = _rows(known.logits, texts)
    limit = CLOSE * wanted.abs().max()
    with intervened(subject, [INTACT]):
        for layer in {min(1, subject.anatomy.layers - 1), subject.anatomy.layers - 1}:
            try:
                got = _from_layer(subject, layer, others, known, texts, reroutes=True)
            except RuntimeError:  # a mask of one row where several are needed
                return False
            if not bool(((got - wanted).abs() <= limit).all()):
                return False
    return True


def _rows(kept: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    return kept[texts.to(kept.device)]


def onsets(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    watched: Sequence[int],
    plans: Sequence[AnyPlan],
    rows: int,
) -> tuple[np.ndarray, np.ndarray]:
    """First tokens that prompts are responded to with, under every plan.

    Parameters
    ----------
    subject : Subject
        The subject.
    prompts : sequence of sequence of int
        Token ids.
    watched : sequence of int
        For every prompt the token whose logit margin is measured.
    plans : sequence of Plan or Combined
        The plans.
    rows : int
        Rows per forward pass, at most.

    Returns
    -------
    first : ndarray of shape (n_plans, n_prompts), int64
        Most likely tokens.
    margins : ndarray of shape (n_plans, n_prompts), float32
        Logit of the watched token minus the largest other logit.
    """
    shape = len(plans), len(prompts)
    first, margins = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
    watch, lengths = torch.as_tensor(watched), [len(prompt) for prompt in prompts]
    for passed in passes(subject, prompts, lengths, [1] * len(prompts), plans, rows):
        logits = passed.logits[:, -1]
        at = passed.plans, passed.texts
        first[at] = logits.argmax(dim=-1).cpu().numpy()
        own = watch[torch.from_numpy(passed.texts)].to(logits.device)
        margins[at] = onset_margin(logits, own).float().cpu().numpy()
    like = same_plans(plans)
    return first[like], margins[like]
