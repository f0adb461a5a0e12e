"""Activity of units on prompts: what the modes ``mean``, ``resample`` and ``adjust`` go by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial

import numpy as np
import torch

from lmri.anatomy import Subject, blocks, dense_activations, equal_length_batches, trunk
from lmri.checks import check_choice
from lmri.errors import LmriError
from lmri.intervene.experts import Pairs, changed_experts, skipping_experts
from lmri.intervene.points import SITES, changed_input, changed_output, changed_state
from lmri.intervene.units import KINDS, Unit


def mean_activity(
    subject: Subject, prompts: Sequence[Sequence[int]], kind: str, rows: int
) -> dict[int, np.ndarray]:
    """Average the activity of units over all tokens of prompts.

    Of a layer it is what the block adds to the residual; of a neuron of an expert the mean over the
    tokens that are routed to the expert, 0 where there are none.

    Parameters
    ----------
    subject : Subject
        The subject, intact.
    prompts : sequence of sequence of int
        Token ids.
    kind : str
        A kind of unit other than ``expert``.
    rows : int
        Rows per forward pass, at most.

    Returns
    -------
    dict of int to ndarray of shape (units of a layer ..., width), float64
        Means by layer; the width is 1, the size of a head or that of the residual.

    Raises
    ------
    LmriError
        If the kind is unknown or ``expert``, which has no activity of its own.
    """
    groups, channels = _layout(subject, kind)
    sums = {
        layer: _Sum(groups, channels, subject.device)
        for layer in KINDS[kind].layers(subject.anatomy)
    }
    sees = {layer: total.add for layer, total in sums.items()}
    _run(subject, prompts, kind, rows, sees)
    shape = _shape(subject, kind)
    return {layer: total.mean().reshape(shape) for layer, total in sums.items()}


def donor_activity(
    subject: Subject, prompts: Sequence[Sequence[int]], kind: str, rows: int, donors: int, seed: int
) -> dict[int, np.ndarray]:
    """Activity of units at tokens drawn from prompts, the same tokens for all units.

    A neuron of an expert has its own tokens, of those that are routed to the expert; 0 where there
    are none. Tokens are used again where they are fewer than donors.

    Parameters
    ----------
    subject, prompts, kind, rows
        As for :func:`mean_activity`.
    donors : int
        Tokens that are drawn.
    seed : int
        Seed of the draw: a token's chance depends on its prompt's number and its position alone.

    Returns
    -------
    dict of int to ndarray of shape (donors, units of a layer ..., width), float32
        Activity by layer.

    Raises
    ------
    LmriError
        As :func:`mean_activity`.
    """
    groups, channels = _layout(subject, kind)
    kept = {layer: _Reservoir(groups, channels) for layer in KINDS[kind].layers(subject.anatomy)}
    lots = [
        torch.from_numpy(np.random.default_rng([seed, 46, number]).random(len(prompt)))
        for number, prompt in enumerate(prompts)
    ]
    sees = {layer: own.add for layer, own in kept.items()}

    def begin(batch: list[int]) -> None:
        for own in kept.values():
            own.begin(torch.cat([lots[row] for row in batch]), donors)

    _run(subject, prompts, kind, rows, sees, begin)
    shape = donors, *_shape(subject, kind)
    return {layer: own.values(donors).reshape(shape) for layer, own in kept.items()}


def preactivation_statistics(
    subject: Subject, prompts: Sequence[Sequence[int]], rows: int, kind: str = "neuron"
) -> dict[int, np.ndarray]:
    """Mean and deviation over all tokens of what activation functions read, and of how many.

    Of a neuron of an expert they are over the tokens that are routed to the expert, and 0 where
    there are none.

    Parameters
    ----------
    subject, prompts, rows
        As for :func:`mean_activity`.
    kind : str
        ``neuron`` of dense MLPs or ``expert_neuron``.

    Returns
    -------
    dict of int to ndarray of shape (units of a layer ..., 3), float64
        Mean, standard deviation (n - 1) and number of tokens n, by layer.

    Raises
    ------
    SubjectError
        If an activation function is no module, see :func:`lmri.anatomy.dense_activations`.
    """
    anatomy, model = subject.anatomy, subject.model
    groups, channels = _layout(subject, kind)
    sums = {
        layer: _Sum(groups, 2 * channels, subject.device) for layer in KINDS[kind].layers(anatomy)
    }

    def add(total: _Sum, activity: torch.Tensor, pairs: Pairs | None = None) -> torch.Tensor:
        wide = activity.double()
        total.add(
            torch.cat([wide, wide.square()], dim=-1), None if pairs is None else pairs.experts
        )
        return activity

    with ExitStack() as stack:
        if kind == "expert_neuron":
            stack.enter_context(skipping_experts(model))
            for layer, total in sums.items():
                own = changed_experts(model, layer, partial(add, total), before=True)
                stack.enter_context(own)
        else:
            for layer, module in dense_activations(model).items():
                stack.enter_context(changed_input(module, partial(add, sums[layer])))
        _forward(subject, prompts, rows)
    shape = *KINDS[kind].shape(anatomy), 3
    return {layer: total.moments().reshape(shape) for layer, total in sums.items()}


def means_of(means: dict[int, np.ndarray], units: Iterable[Unit]) -> dict[Unit, list[float]]:
    """Pick the means of some units, for a plan or a file.

    Parameters
    ----------
    means : dict of int to ndarray
        From :func:`mean_activity`.
    units : iterable of tuple of int
        Units of its kind; one named several times is kept once.

    Returns
    -------
    dict of tuple of int to list of float
        Mean of every unit.
    """
    return {unit: means[unit[0]][tuple(unit[1:])].tolist() for unit in units}


def donors_of(donors: dict[int, np.ndarray], units: Iterable[Unit]) -> dict[Unit, list[float]]:
    """Pick the activity of some units at every donor, for a plan or a file.

    Parameters
    ----------
    donors : dict of int to ndarray
        From :func:`donor_activity`.
    units : iterable of tuple of int
        Units of its kind.

    Returns
    -------
    dict of tuple of int to list of float
        Of every unit as many numbers as it is wide, donor after donor.
    """
    return {unit: donors[unit[0]][(slice(None), *unit[1:])].ravel().tolist() for unit in units}


def _layout(subject: Subject, kind: str) -> tuple[int, int]:
    """Groups of tokens that are told apart, and the channels of each."""
    check_choice(kind, set(KINDS) - {"expert"}, "kind", "mean activity", LmriError)
    own, anatomy = KINDS[kind], subject.anatomy
    if kind == "residual_site":
        return len(anatomy.places), anatomy.hidden
    return (anatomy.experts if kind == "expert_neuron" else 1), own.channels(anatomy)


def _shape(subject: Subject, kind: str) -> tuple[int, ...]:
    own, anatomy = KINDS[kind], subject.anatomy
    return (*own.shape(anatomy), own.width(anatomy))


See = Callable[[torch.Tensor, torch.Tensor | None, torch.Tensor | None], None]
"""Gets activity (n, channels), its groups, and which tokens it is of; None for 0 and for all."""


def _run(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    kind: str,
    rows: int,
    sees: dict[int, See],
    begin: Callable[[list[int]], None] | None = None,
) -> None:
    with ExitStack() as stack:
        stack.enter_context(skipping_experts(subject.model))
        for layer, see in sees.items():
            for watched in _watched(subject, kind, layer, see):
                stack.enter_context(watched)
        _forward(subject, prompts, rows, begin)


@torch.inference_mode()
def _forward(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    rows: int,
    begin: Callable[[list[int]], None] | None = None,
) -> None:
    for batch in equal_length_batches([len(prompt) for prompt in prompts], rows):
        if begin is not None:
            begin(batch)
        ids = torch.tensor([prompts[row] for row in batch], device=subject.device)
        trunk(subject.model)(input_ids=ids, use_cache=False)


class _Sum:
    """Sum over tokens, in one group or in several."""

    def __init__(self, groups: int, channels: int, device: torch.device) -> None:
        self._total = torch.zeros(groups, channels, dtype=torch.float64, device=device)
        self._count = torch.zeros(groups, 1, dtype=torch.float64, device=device)

    def add(
        self,
        activity: torch.Tensor,
        groups: torch.Tensor | None = None,
        tokens: torch.Tensor | None = None,
    ) -> None:
        flat = activity.flatten(0, -2).to(self._total)  # (n, channels)
        groups = torch.zeros(len(flat), dtype=torch.int64) if groups is None else groups
        groups = groups.to(flat.device)
        self._total.index_add_(0, groups, flat)
        self._count.index_add_(0, groups, flat.new_ones(len(flat), 1))

    def mean(self) -> np.ndarray:
        return (self._total / self._count.clamp_min(1)).cpu().numpy()

    def moments(self) -> np.ndarray:
        """Mean, deviation and count of channels that are values and then their squares."""
        mean, square = np.split(self.mean(), 2, axis=1)
        count = self._count.cpu().numpy()
        variance = np.maximum(square - mean**2, 0.0) * count / np.maximum(count - 1, 1)
        return np.stack([mean, np.sqrt(variance), np.broadcast_to(count, mean.shape)], axis=-1)


class _Reservoir:
    """Activity of the tokens with the smallest lots, in one group or in several."""

    def __init__(self, groups: int, channels: int) -> None:
        self._lots = [torch.zeros(0, dtype=torch.float64) for _ in range(groups)]
        self._kept = [torch.zeros(0, channels) for _ in range(groups)]

    def begin(self, lots: torch.Tensor, most: int) -> None:
        self._now, self._most = lots, most

    def add(
        self,
        activity: torch.Tensor,
        groups: torch.Tensor | None = None,
        tokens: torch.Tensor | None = None,
    ) -> None:
        flat = activity.flatten(0, -2).float().cpu()
        lots = self._now if tokens is None else self._now[tokens.cpu()]
        groups = torch.zeros(len(flat), dtype=torch.int64) if groups is None else groups.cpu()
        for group in groups.unique().tolist():
            own = groups == group
            merged = torch.cat([self._lots[group], lots[own]])
            best = merged.argsort(stable=True)[: self._most]
            self._lots[group] = merged[best]
            self._kept[group] = torch.cat([self._kept[group], flat[own]])[best]

    def values(self, donors: int) -> np.ndarray:
        """Of shape (donors, groups, channels)."""
        every = []
        for kept in self._kept:
            kept = kept if len(kept) else torch.zeros(1, kept.shape[1])
            every.append(kept[torch.arange(donors) % len(kept)])
        return torch.stack(every, dim=1).numpy()


def _watched(
    subject: Subject, kind: str, layer: int, see: See
) -> list[AbstractContextManager[None]]:
    """Show the activity of a layer's units and change nothing."""
    model = subject.model

    def show(activity: torch.Tensor) -> torch.Tensor:
        see(activity, None, None)
        return activity

    def show_after(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        see(after - before if kind == "layer" else after, None, None)
        return after

    def show_pairs(neurons: torch.Tensor, pairs: Pairs) -> torch.Tensor:
        see(neurons, pairs.experts, pairs.tokens)
        return neurons

    def show_place(number: int) -> Callable[[torch.Tensor], torch.Tensor]:
        def show(state: torch.Tensor) -> torch.Tensor:
            groups = torch.full((state[..., 0].numel(),), number, dtype=torch.int64)
            see(state, groups, None)
            return state

        return show

    def show_features(state: torch.Tensor) -> torch.Tensor:
        see(subject.dictionary.encode(state), None, None)
        return state

    if kind in SITES:
        return [changed_input(SITES[kind](model)[layer], show)]
    if kind == "expert_neuron":
        return [changed_experts(model, layer, show_pairs)]
    if kind == "residual_site":
        places = enumerate(subject.anatomy.places)
        return [changed_state(model, layer, place, show_place(i)) for i, place in places]
    if kind == "feature":
        return [changed_state(model, layer, subject.dictionary.place, show_features)]
    return [changed_output(blocks(model)[layer], show_after)]
