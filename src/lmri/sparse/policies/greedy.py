"""TEAL's greedy allocation: how the projections of a block share out what it skips.

Every step tries each projection a little sparser, runs the block, and takes the one that changes
its output least. Two things are other than in the released code: a step is as large in parameters
for every projection of any model (there, keys and values of some models count an eighth of what
they have), and the error is the mean over tokens of the norm of the difference (there, the mean
over channels of norms over tokens).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import groupby
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from lmri.anatomy import blocks
from lmri.errors import SparseError
from lmri.sparse.calibration import Activity, Score
from lmri.sparse.calibration.activity import Batch
from lmri.sparse.calibration.selection import Selection, skipped_count
from lmri.sparse.calibration.texts import even_steps
from lmri.sparse.plan import SparsePlan
from lmri.sparse.rules import InputThreshold
from lmri.sparse.runtime import sparse

BATCHES = 8
"""Batches of a sample, at least, where there are as many tokens."""

MOST = 0.99
"""Share of a projection above which it is left alone."""

Place = tuple[int, str]

_PATHS: WeakKeyDictionary[Activity, dict[tuple, list[dict[str, float]]]] = WeakKeyDictionary()
"""Of every activity, what the search in each layer has passed: steps do not depend on the target,
so a search for a higher one goes on where that for a lower one ended."""


def allocate(
    activity: Activity,
    scores: Mapping[Place, Score],
    target: float,
    step: float,
    sample_tokens: int,
) -> dict[Place, float]:
    """Find the share that each projection skips so that every block skips the same.

    With ``w_p`` the parameters of a projection by those of the first (``query``), a step adds
    ``step / w_p`` to one of them, until ``sum(w_p s_p) / sum(w_p)`` is the target or more. For the
    search thresholds are within 0.8 % of the quantiles.

    Parameters
    ----------
    activity : Activity
        Of the calibration.
    scores : mapping of (int, str) to Score
        Magnitudes of what each projection reads, in the order of layers.
    target : float
        Share of the parameters of each block.
    step : float
        Share of the first projection that a step adds.
    sample_tokens : int
        Tokens on which blocks are compared; their states are kept, of one layer at a time.

    Returns
    -------
    dict of (int, str) to float
        Shares.
    """
    counted = activity.coarse(scores)
    batches, shares = _sample(activity, sample_tokens), {}
    paths = _PATHS.setdefault(activity, {})
    for layer, own in groupby(counted, key=lambda place: place[0]):
        names = [name for _, name in own]
        weights = _weights(activity, layer, names)
        path = paths.setdefault((layer, *names, step, sample_tokens), [])
        if not (path and _reaches(weights, path[-1], target)):
            block = _Block(activity, layer, batches)
            selections = {name: counted[layer, name] for name in names}
            search(weights, target, step, _error(activity, block, layer, selections), path)
        found = next(passed for passed in path if _reaches(weights, passed, target))
        shares |= {(layer, name): share for name, share in found.items()}
    return shares


def search(
    weights: Mapping[str, float],
    target: float,
    step: float,
    error: Callable[[Mapping[str, float]], float],
    path: list[dict[str, float]] | None = None,
) -> dict[str, float]:
    """Search greedily: each step makes the projection sparser that adds the least error.

    Parameters
    ----------
    weights : mapping of str to float
        ``w_p`` of every projection.
    target : float
        Weighted mean share to reach.
    step : float
        A step is ``step / w_p``.
    error : callable
        From shares by name to the error of the block.
    path : list of dict, optional
        Shares after every step of a search for a lower target, where this one goes on; all that it
        passes are appended.

    Returns
    -------
    dict of str to float
        Shares: their weighted mean is at least the target and less than one step above.
    """
    path = [] if path is None else path
    if not path:
        path.append(dict.fromkeys(weights, 0.0))
    shares = path[-1]
    while not _reaches(weights, shares, target):
        tries = {
            name: {**shares, name: share + step / weights[name]}
            for name, share in shares.items()
            if share + step / weights[name] <= MOST
        }
        if not tries:
            raise SparseError(
                f"The 'sparsity' of a greedy allocation cannot be reached in steps of {step}. "
                f"Got {target}: use a smaller 'step' or 'sparsity'."
            )
        # Of equal errors the first name: the order does not depend on anything else.
        best = min(tries, key=lambda name: error(tries[name]))
        shares = tries[best]
        path.append(shares)
    return shares


def _reaches(weights: Mapping[str, float], shares: Mapping[str, float], target: float) -> bool:
    mean = sum(weights[name] * share for name, share in shares.items()) / sum(weights.values())
    return mean >= target - 1e-9


def _weights(activity: Activity, layer: int, names: Sequence[str]) -> dict[str, float]:
    projections, top_k = activity.linears[layer], activity.subject.anatomy.top_k
    sizes = {
        name: projections[name].parameters * (top_k if projections[name].experts else 1)
        for name in names
    }
    return {name: size / sizes[names[0]] for name, size in sizes.items()}


def _error(
    activity: Activity, block: _Block, layer: int, selections: Mapping[str, Selection]
) -> Callable[[Mapping[str, float]], float]:
    def error(shares: Mapping[str, float]) -> float:
        rules = tuple(
            InputThreshold(layer, name, selections[name].coarse([rank])[0])
            for name, share in shares.items()
            if (rank := skipped_count(share, selections[name].total))
        )
        with sparse(activity.subject, SparsePlan("teal", "", rules), "reference", count=False):
            return block.change()

    return error


class _Stop(Exception):  # noqa: N818 - nothing went wrong
    """Ends a pass after the block that is looked at."""


class _Block:
    """A block with what it was given on a sample, and what it made of it."""

    def __init__(self, activity: Activity, layer: int, batches: Sequence[Batch]) -> None:
        self._activity, self._layer, self._batches = activity, layer, batches
        self._modules = blocks(activity.subject.model)
        self._given: list[Tensor] = []
        self._kinds: list[type] = []  # of what the blocks before it return
        self._made = [self._run(batch) for batch in batches]

    def change(self) -> float:
        """Mean over tokens of the norm of what differs in its output now."""
        total, tokens = 0.0, 0
        for i, (batch, made) in enumerate(zip(self._batches, self._made, strict=True)):
            now = self._run(batch, self._given[i])
            norms = (now - made)[batch.counted.to(now.device)].double().norm(dim=-1)
            total, tokens = total + float(norms.sum()), tokens + len(norms)
        return total / tokens

    def _run(self, batch: Batch, given: Tensor | None = None) -> Tensor:
        """Run the model up to the block; with its input given, the blocks before it do nothing."""
        found: list[Tensor] = []

        def enter(module: nn.Module, positional: tuple, named: dict) -> tuple | None:
            if given is None:
                self._given.append(positional[0] if positional else named["hidden_states"])
                return None
            if positional:
                return (given, *positional[1:]), named
            return positional, {**named, "hidden_states": given}

        def leave(module: nn.Module, positional: tuple, output: object) -> None:
            found.append(_states(output))
            raise _Stop

        with ExitStack() as stack:
            block = self._modules[self._layer]
            stack.callback(block.register_forward_pre_hook(enter, with_kwargs=True).remove)
            stack.callback(block.register_forward_hook(leave).remove)
            for module in self._modules[: self._layer] if given is not None else ():
                stack.enter_context(_passing(module))
            with suppress(_Stop):
                self._activity.run(batch)
        return found[0]


@contextmanager
def _passing(module: nn.Module) -> Iterator[None]:
    """Let a block pass on what it is given."""

    def forward(*positional: Tensor, **named: object) -> Tensor:
        return positional[0] if positional else named["hidden_states"]

    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def _states(output: object) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _sample(activity: Activity, tokens: int) -> list[Batch]:
    """Small batches of short texts and of long ones, with as many tokens together, at least one."""
    most = max(1, tokens // BATCHES)
    counts = [int(batch.counted.sum()) for batch in activity.batches(most)]
    taken = set(even_steps(counts, tokens / sum(counts)).tolist()) or {counts.index(max(counts))}
    return [b for i, b in enumerate(activity.batches(most)) if i in taken and counts[i]]
