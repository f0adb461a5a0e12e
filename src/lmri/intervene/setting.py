"""Setting units: activity is replaced where it is made, each row of a batch by its own plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch

from lmri.anatomy import Dictionary, Subject, blocks, dense_activations, expert_groups
from lmri.intervene.experts import Pairs, changed_experts
from lmri.intervene.points import (
    SITES,
    Change,
    ChangeOutput,
    changed_input,
    changed_output,
    changed_state,
)
from lmri.intervene.rules import RULES
from lmri.intervene.session import Session
from lmri.intervene.tables import UnitTable
from lmri.intervene.units import DIRECTION_MODES
from lmri.intervene.void import VoidLayers


@contextmanager
def setting_units(subject: Subject, session: Session) -> Iterator[None]:
    """Set units of all kinds but experts; everything is restored afterwards.

    Parameters
    ----------
    subject : Subject
        The subject.
    session : Session
        Plans, and which of them each row follows. What is replaced in a row leaves every bit of
        the others; only experts round otherwise when the rows that they are run on together change.
    """
    model, plans = subject.model, session.plans
    with ExitStack() as stack:
        for kind, site in SITES.items():
            for table in plans.of(kind):
                module = (dense_activations if table.mode == "adjust" else site)(model)[table.layer]
                change = partial(_changed, session, _on_device(table))
                stack.enter_context(changed_input(module, change))
        # Of changes of one state, each is put before the one before it: the last comes first.
        for layer, place, change in _states(subject, session):
            stack.enter_context(changed_state(model, layer, place, change))
        for layer, change in _outputs(session):
            stack.enter_context(changed_output(blocks(model)[layer], change))
        for table in plans.of("expert_neuron"):
            group = expert_groups(model)[table.layer]
            own = table.to(next(group.parameters()).device)
            change = partial(_changed_pairs, session, own)
            before = table.mode == "adjust"
            stack.enter_context(changed_experts(model, table.layer, change, before=before))
        yield


def _states(subject: Subject, session: Session) -> Iterator[tuple[int, str, Change]]:
    """Changes of whole states, the last first: of directions in the order of their plans."""
    sites = session.plans.of("residual_site")
    moved = [table for table in sites if table.mode in DIRECTION_MODES]
    for change, tables in (
        (_changed_along, reversed(moved)),
        (_changed, [table for table in sites if table.mode not in DIRECTION_MODES]),
    ):
        for table in tables:
            for place, part in _places(table, subject):
                yield table.layer, place, partial(change, session, _on_device(part))
    for table in session.plans.of("feature"):
        dictionary = subject.dictionary
        change = partial(_changed_features, session, _on_device(table), dictionary)
        yield table.layer, dictionary.place, change


def _outputs(session: Session) -> Iterator[tuple[int, ChangeOutput]]:
    """Changes of what blocks pass on, the last first: what a block adds is settled before."""
    for table in session.plans.of("residual"):
        yield table.layer, partial(_changed_residual, session, _on_device(table))
    layers = session.plans.of("layer")
    void = [table for table in layers if table.mode == "void"]
    if void:
        judge = VoidLayers(session, void)
        for layer in judge.layers:
            yield layer, judge.change(layer)
    for table in layers:
        if table.mode != "void":
            yield table.layer, partial(_changed_layer, session, _on_device(table))


def _on_device(table: UnitTable) -> Callable[[torch.device], UnitTable]:
    """Give a table on the device of the activity, put there once."""
    held: dict[torch.device, UnitTable] = {}
    return lambda device: held.get(device) or held.setdefault(device, table.to(device))


OnDevice = Callable[[torch.device], UnitTable]


def _places(table: UnitTable, subject: Subject) -> Iterator[tuple[str, UnitTable]]:
    hidden = subject.anatomy.hidden
    for number, place in enumerate(subject.anatomy.places):
        part = table.part(slice(number * hidden, (number + 1) * hidden))
        if part.chosen.any():
            yield place, part


def _changed(
    session: Session,
    on_device: OnDevice,
    activity: torch.Tensor,
    base: torch.Tensor | None = None,
) -> torch.Tensor:
    """Change channels of activity of shape (batch, tokens, channels), or with both first in one.

    Values that units are set to are added to a base, if there is one, of the same shape.
    """
    table = on_device(activity.device)
    by_row = activity.reshape(len(session.rows), -1, activity.shape[-1])
    at = session.place(table, activity.device, by_row.shape[1])
    if table.values.ndim == 2:
        values = table.values[at.row].to(activity.dtype)  # (batch, 1, channels)
        values = values if base is None else base.reshape(by_row.shape) + values
    else:
        values = RULES[table.mode](table.values, at, by_row).to(activity.dtype)
    return torch.where(table.chosen[at.row], values, by_row).reshape(activity.shape)


def _changed_features(
    session: Session, on_device: OnDevice, dictionary: Dictionary, state: torch.Tensor
) -> torch.Tensor:
    """``x + (wanted - activity) W_d`` over the features that any plan names."""
    used = on_device(state.device).chosen.any(0).nonzero().squeeze(1)
    # All are read, as where their means are taken: a product of fewer columns rounds otherwise.
    activity = dictionary.encode(state)
    wanted = _changed(session, on_device, activity)
    return state + (wanted - activity)[..., used] @ dictionary.decoder[used]


def _changed_along(session: Session, on_device: OnDevice, state: torch.Tensor) -> torch.Tensor:
    """Add a vector to a state (batch, tokens, hidden), or make it that of an origin along some."""
    table = on_device(state.device)
    by_row = state.reshape(len(session.rows), -1, state.shape[-1])
    own = table.values[table.row_of[session.rows.to(state.device), 0]].to(state.dtype)
    if table.mode == "add":
        moved = by_row + own
    else:
        origin, basis = own[:, :1], own[:, 1:]  # (batch, 1 or n, hidden)
        moved = by_row + ((origin - by_row) @ basis.transpose(1, 2)) @ basis
    at = session.place(table, state.device, by_row.shape[1])
    return torch.where(table.chosen[at.row], moved, by_row).reshape(state.shape)


def _changed_residual(
    session: Session, on_device: OnDevice, before: torch.Tensor, after: torch.Tensor
) -> torch.Tensor:
    return _changed(session, on_device, after)


def _changed_layer(
    session: Session, on_device: OnDevice, before: torch.Tensor, after: torch.Tensor
) -> torch.Tensor:
    if on_device(after.device).values.ndim == 2:
        return _changed(session, on_device, after, base=before)
    # What is added to what there is: nothing, to the bit, where nothing is changed.
    added = after - before
    return after + (_changed(session, on_device, added) - added)


def _changed_pairs(
    session: Session, table: UnitTable, neurons: torch.Tensor, pairs: Pairs
) -> torch.Tensor:
    """Change neurons of shape (n_pairs, expert_size) of experts that run on a token each."""
    at = session.place_pairs(table, pairs.tokens, pairs.experts, pairs.n_tokens)
    if table.values.ndim == 2:
        values = table.values[at.row]
    else:
        values = RULES[table.mode](table.values, at, neurons)
    return torch.where(table.chosen[at.row], values.to(neurons.dtype), neurons)
