"""Running a subject under plans, row by row: the choice of experts recomputed, other units set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, reduce

import torch
from torch import nn

from lmri.anatomy import Subject, route, routers
from lmri.intervene.experts import skipping_experts
from lmri.intervene.looking import changed_looking
from lmri.intervene.patterns import changed_patterns
from lmri.intervene.plans import AnyPlan
from lmri.intervene.session import Session
from lmri.intervene.setting import setting_units
from lmri.intervene.tables import compile_plans


@contextmanager
def intervened(subject: Subject, plans: Sequence[AnyPlan]) -> Iterator[Session]:
    """Run a subject under plans; everything is restored afterwards.

    Parameters
    ----------
    subject : Subject
        The subject.
    plans : sequence of Plan or Combined
        The plans that rows may follow.

    Yields
    ------
    Session
        Set its ``rows`` before every forward pass.

    Raises
    ------
    LmriError
        If a plan cannot be carried out, see
        :func:`lmri.intervene.plan_checks.check_plan`.
    """
    session = Session(compile_plans(plans, subject.anatomy), subject.anatomy)
    with ExitStack() as stack:
        stack.enter_context(skipping_experts(subject.model))
        for layer, router in routers(subject.model).items():
            if session.plans.touches(layer):
                # First, so that whoever records the router sees what is run.
                change = partial(_reroute, session, layer)
                hook = router.register_forward_hook(change, prepend=True)
                stack.callback(hook.remove)
        stack.enter_context(setting_units(subject, session))
        layers = {table.layer for table in session.plans.looking}
        if layers:
            changes = {layer: partial(changed_looking, session, layer) for layer in layers}
            stack.enter_context(changed_patterns(subject.model, changes))
        yield session


def _reroute(
    session: Session,
    layer: int,
    module: nn.Module,
    arguments: tuple,
    output: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    logits = output[0]  # (n_tokens, experts), rows of the batch one after another
    per_row = logits.shape[0] // len(session.rows)
    rows = session.rows.repeat_interleave(per_row)  # (n_tokens,)

    def units(mode: str) -> torch.Tensor | None:
        mask = session.plans.at(mode, layer)  # (n_plans, experts)
        found = [] if mask is None else [mask.to(logits.device)[rows]]
        for table in session.plans.routed_at(mode, layer):
            found.append(session.tokens_of(table, len(logits), logits.device))
        return reduce(torch.logical_or, found) if found else None

    rule = session.anatomy.routing
    weights, chosen = route(module, rule, logits, off=units("mask"), on=units("force"))
    weights = weights.to(output[1].dtype)
    # A choice past the last expert is a slot that already is empty.
    inside = chosen.clamp(max=session.anatomy.experts - 1)
    indices = chosen
    for mode in ("zero", "zero_renormalise"):
        off = units(mode)
        if off is not None:
            empty = off.gather(1, inside)  # (n_tokens, top_k)
            weights = _empty_slots(weights, empty, renormalise=mode == "zero_renormalise")
            # An index past the last expert is a slot that nobody runs, see experts.py.
            indices = indices.masked_fill(empty, session.anatomy.experts)
    for table in session.plans.routed_at("gain", layer):
        named = session.tokens_of(table, len(logits), logits.device)
        factors = table.values.to(logits.device)[rows, :, 0].to(weights.dtype)
        factors = factors.masked_fill(~named, 1.0)
        weights = weights * factors.gather(1, inside)
    return logits, weights, indices


def _empty_slots(weights: torch.Tensor, empty: torch.Tensor, *, renormalise: bool) -> torch.Tensor:
    kept = weights.masked_fill(empty, 0.0)
    if not renormalise:
        return kept
    left = kept.sum(dim=-1, keepdim=True)
    scale = weights.sum(dim=-1, keepdim=True) / left.clamp_min(torch.finfo(weights.dtype).tiny)
    # Rows without an empty slot keep their weights to the bit, rows without a slot keep nothing.
    touched = empty.any(dim=-1, keepdim=True) & (left > 0)
    return torch.where(touched, kept * scale, kept)
