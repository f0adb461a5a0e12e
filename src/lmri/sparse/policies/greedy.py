"""TEAL's greedy allocation: how the projections of a block share out what it skips.

Every step tries each projection a little sparser, runs the block, and takes the one that changes
its output least. Two things are other than in the released code: a step is as large in parameters
for every projection of any model (there, keys and values of some models count an eighth of what
they have), and the error is the mean over tokens of the norm of the difference (there, the mean
over channels of norms over tokens).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from lmri.anatomy import blocks
from lmri.errors import SparseError
from lmri.sparse.calibration import Activity, Score
from lmri.sparse.calibration.activity import Batch
from lmri.sparse.calibration.selection import Selection, skipped_count
from lmri.sparse.policies.draft import Runs
from lmri.sparse.rules import InputThreshold

MOST = 0.99
"""Share of a projection above which it is left alone."""

Place = tuple[int, str]


def allocate(
    activity: Activity,
    scores: Mapping[Place, Score],
    target: float,
    step: float,
    sample_tokens: int,
    runs: Runs,
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
    runs : Runs
        Its ``applied`` makes a block follow rules.

    Returns
    -------
    dict of (int, str) to float
        Shares.

    Raises
    ------
    SparseError
        If nothing can be run.
    """
    if runs.applied is None:
        raise SparseError(
            "The 'allocation' greedy of the policy 'teal' runs blocks under rules: it needs the "
            "runtime ('applied'). Got none: use 'uniform'."
        )
    counted = activity.coarse(scores)
    batches, shares = _sample(activity, sample_tokens), {}
    for layer, own in groupby(counted, key=lambda place: place[0]):
        names = [name for _, name in own]
        weights = _weights(activity, layer, names)
        block = _Block.read(activity, layer, batches)
        selections = {name: counted[layer, name] for name in names}
        found = search(weights, target, step, _error(block, layer, selections, runs))
        shares |= {(layer, name): share for name, share in found.items()}
    return shares


def search(
    weights: Mapping[str, float],
    target: float,
    step: float,
    error: Callable[[Mapping[str, float]], float],
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

    Returns
    -------
    dict of str to float
        Shares: their weighted mean is at least the target and less than one step above.
    """
    total, shares = sum(weights.values()), dict.fromkeys(weights, 0.0)
    while sum(weights[name] * share for name, share in shares.items()) / total < target - 1e-9:
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
    return shares


def _weights(activity: Activity, layer: int, names: Sequence[str]) -> dict[str, float]:
    projections, top_k = activity.linears[layer], activity.subject.anatomy.top_k
    sizes = {
        name: projections[name].parameters * (top_k if projections[name].experts else 1)
        for name in names
    }
    return {name: size / sizes[names[0]] for name, size in sizes.items()}


def _error(
    block: _Block, layer: int, selections: Mapping[str, Selection], runs: Runs
) -> Callable[[Mapping[str, float]], float]:
    def error(shares: Mapping[str, float]) -> float:
        rules = [
            InputThreshold(layer, name, selections[name].coarse([rank])[0])
            for name, share in shares.items()
            if (rank := skipped_count(share, selections[name].total))
        ]
        with runs.applied(rules):
            return block.change()

    return error


@dataclass(frozen=True, eq=False)
class _Block:
    """A block with what it was given on a sample, and what it made of it."""

    module: nn.Module
    given: list[tuple[tuple, dict]]
    made: list[Tensor]
    counted: list[Tensor]

    @classmethod
    def read(cls, activity: Activity, layer: int, batches: Sequence[Batch]) -> _Block:
        module = blocks(activity.subject.model)[layer]
        own = cls(module, [], [], [batch.counted for batch in batches])

        def keep(module: nn.Module, given: tuple, named: dict, output: object) -> None:
            own.given.append((given, named))
            own.made.append(_states(output))

        hook = module.register_forward_hook(keep, with_kwargs=True)
        try:
            for batch in batches:
                activity.run(batch)
        finally:
            hook.remove()
        return own

    @torch.inference_mode()
    def change(self) -> float:
        """Mean over tokens of the norm of what differs in the output."""
        total, tokens = 0.0, 0
        for (given, named), made, counted in zip(self.given, self.made, self.counted, strict=True):
            now = _states(self.module(*given, **named))
            norms = (now - made)[counted].double().norm(dim=-1)
            total, tokens = total + float(norms.sum()), tokens + len(norms)
        return total / tokens


def _states(output: object) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _sample(activity: Activity, tokens: int) -> list[Batch]:
    """Batches at even steps through all of them, with as many tokens together, at least one."""
    counts = [int(batch.counted.sum()) for batch in activity.batches()]
    step = max(1, round(sum(counts) / tokens))
    return [batch for i, batch in enumerate(activity.batches()) if i % step == 0 and counts[i]]
