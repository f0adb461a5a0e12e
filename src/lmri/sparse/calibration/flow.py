"""Hidden-dimension flow: how long the same dimensions of the residual stay the largest."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from lmri.anatomy import blocks
from lmri.errors import SparseError
from lmri.sparse.calibration.activity import Activity
from lmri.sparse.masks import largest


def hidden_flow(activity: Activity, length: int = 8, share: float = 0.1) -> xr.Dataset:
    """Measure the share of dimensions that stay among the largest for several tokens on end.

    With ``m_td`` whether ``|x_td|`` is among the largest share of a token's dimensions,
    ``flow = mean over t of mean over d of m_td m_(t-1)d ... m_(t-length+1)d``. Beside it is what
    tokens without order would show, ``fixed = mean over d of (mean over t of m_td) ** length``:
    dimensions that are always large make both alike, and only what goes beyond flows.

    Parameters
    ----------
    activity : Activity
        Of a calibration.
    length : int
        Tokens on end, of one text; at least 1.
    share : float
        Share of a token's dimensions that counts as large, in (0, 1); a tenth by default.

    Returns
    -------
    Dataset
        ``flow`` and ``fixed`` of dimension layer, after each block; attributes ``length``,
        ``share`` (that of whole dimensions) and ``tokens``, those with ``length - 1`` before them.

    Raises
    ------
    SparseError
        If no text is long enough, or a parameter is not as above.

    References
    ----------
    The observation is that of Chen et al. 2024, Mixture of Hidden-Dimensions Transformer,
    arXiv:2412.05644.
    """
    if length < 1 or not 0 < share < 1:
        raise SparseError(
            "The 'length' of a flow must be at least 1 and its 'share' in (0, 1). Got "
            f"{length} and {share}."
        )
    longest = max(map(len, activity.texts.tokens)) - activity.left_out
    if longest < length:
        raise SparseError(
            f"The 'length' of a flow must be at most that of the longest text, {longest} tokens. "
            f"Got {length}."
        )
    hidden, modules = activity.subject.anatomy.hidden, blocks(activity.subject.model)
    kept = max(1, round(share * hidden))
    sums = [_Sums(hidden) for _ in modules]
    counted: list[Tensor] = []

    def see(own: _Sums, module: nn.Module, given: tuple, output: object) -> None:
        states = output[0] if isinstance(output, tuple) else output
        own.add(largest(states.abs().float(), kept), counted[-1].to(states.device), length)

    hooks = [m.register_forward_hook(partial(see, s)) for m, s in zip(modules, sums, strict=True)]
    try:
        for batch in activity.batches():
            counted[:] = [batch.counted]
            activity.run(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return xr.Dataset(
        {
            "flow": ("layer", [s.runs / (s.windows * hidden) for s in sums]),
            "fixed": ("layer", [float(((s.large / s.tokens) ** length).mean()) for s in sums]),
        },
        coords={"layer": np.arange(len(modules))},
        attrs={"length": length, "share": kept / hidden, "tokens": sums[0].windows},
    )


class _Sums:
    """Of one layer: how often each dimension is large, and how often it stays so."""

    def __init__(self, hidden: int) -> None:
        self.large = torch.zeros(hidden, dtype=torch.float64)
        self.tokens, self.runs, self.windows = 0, 0, 0

    def add(self, large: Tensor, counted: Tensor, length: int) -> None:
        large = large & counted[..., None]
        self.large += large.sum(dim=(0, 1)).double().cpu()
        self.tokens += int(counted.sum())
        self.runs += int((_within(large, length) == length).sum())
        self.windows += int((_within(counted, length) == length).sum())


def _within(mask: Tensor, length: int) -> Tensor:
    """How many of the last tokens are True, at each from the first that has so many."""
    ends = mask.int().cumsum(dim=1)
    starts = torch.cat([torch.zeros_like(ends[:, :1]), ends[:, :-length]], dim=1)
    return ends[:, length - 1 :] - starts[:, : ends.shape[1] - length + 1]
