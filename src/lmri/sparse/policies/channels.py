"""Policies that skip channels of what a projection reads: TEAL, WINA and the exact top-k."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lmri.checks import check_choice
from lmri.errors import SparseError
from lmri.sparse.calibration import Activity, Look, Score
from lmri.sparse.calibration.achieved import site_of
from lmri.sparse.calibration.selection import skipped_count
from lmri.sparse.policies.draft import (
    Draft,
    Runs,
    Sparsity,
    column_norms,
    per_channel,
    projections_of,
    rows_of,
)
from lmri.sparse.policies.greedy import allocate
from lmri.sparse.rules import InputThreshold, InputTopK

ALLOCATIONS = ("uniform", "greedy")
NORMS = ("all", "k_gate")
BY = ("top_k", "threshold")
K_GATE = ("key", "gate", "expert_gate", "shared_gate")
"""Projections whose norms WINA's released code uses; the others have norm 1 there."""


@dataclass(frozen=True)
class TealOptions(Sparsity):
    """Options of :func:`teal`.

    Attributes
    ----------
    projections : tuple of str or None
        Which projections; None is all.
    allocation : str
        ``uniform``: every projection skips the same share; ``greedy``: every block does, and its
        projections share it out, see :func:`lmri.sparse.policies.greedy.allocate`.
    step : float
        Share of a projection as large as ``query`` that one step of the greedy allocation adds.
    sample_tokens : int
        Tokens that the greedy allocation compares blocks on.
    """

    projections: tuple[str, ...] | None = None
    allocation: str = "uniform"
    step: float = 0.05
    sample_tokens: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.allocation, ALLOCATIONS, "allocation", "the policy 'teal'", SparseError)
        if not 0 < self.step < 1:
            raise SparseError(
                f"The 'step' of the policy 'teal' must be in (0, 1). Got {self.step}."
            )


def teal(activity: Activity, options: TealOptions, runs: Runs) -> Draft:
    """Skip channels with ``|x_i| <= t``, t the quantile of ``|x|`` of each projection.

    The released code takes the quantile of x and supposes that x is symmetric around 0; that of
    ``|x|`` is right for any distribution.

    Parameters
    ----------
    activity : Activity
        Of the calibration.
    options : TealOptions
        What is asked for.
    runs : Runs
        Not used.

    Returns
    -------
    Draft
        One `InputThreshold` for each projection.

    References
    ----------
    Liu et al. 2024, Training-free activation sparsity in large language models, arXiv:2408.14690.
    """
    places = list(projections_of(activity, options.projections))
    scores = {place: _magnitude(*place) for place in places}
    shares = dict.fromkeys(places, options.sparsity)
    if options.allocation == "greedy":
        shares = allocate(activity, scores, options.sparsity, options.step, options.sample_tokens)
    found = activity.order_statistics(scores, shares)
    draft = Draft()
    for (layer, name), threshold in found.items():
        draft.add(InputThreshold(layer, name, threshold), shares[layer, name])
    return draft


@dataclass(frozen=True)
class WinaOptions(Sparsity):
    """Options of :func:`wina`.

    Attributes
    ----------
    norms : str
        ``all``: every projection has the norms of its columns; ``k_gate``: only keys and gates do,
        as in the released code, and the others are plain magnitudes.
    by : str
        ``top_k``: the same number of channels at every token; ``threshold``: their quantile.
    """

    norms: str = "all"
    by: str = "top_k"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.norms, NORMS, "norms", "the policy 'wina'", SparseError)
        check_choice(self.by, BY, "by", "the policy 'wina'", SparseError)


def wina(activity: Activity, options: WinaOptions, runs: Runs) -> Draft:
    """Skip the channels of smallest ``|x_i| ||W[:, i]||``.

    For columns that are orthogonal this is the best choice at every token. The rotation that makes
    some of them so in the released code is not done: it subtracts the mean of the embeddings, which
    changes models with root-mean-square normalisation.

    Parameters
    ----------
    activity : Activity
        Of the calibration; ``top_k`` needs the weights alone.
    options : WinaOptions
        What is asked for.
    runs : Runs
        Not used.

    Returns
    -------
    Draft
        One `InputTopK` or `InputThreshold` for each projection.

    References
    ----------
    Chen et al. 2025, WINA: weight informed neuron activation, arXiv:2505.19427.
    """
    norms = {
        (layer, name): column_norms(activity.linears[layer][name].weight)
        if options.norms == "all" or name in K_GATE
        else None
        for layer, name in projections_of(activity)
    }
    draft = Draft()
    if options.by == "top_k":
        for (layer, name), scale in norms.items():
            draft.add(_top_k(activity, layer, name, options.sparsity, scale), options.sparsity)
        return draft
    scores = {place: _magnitude(*place, scale) for place, scale in norms.items()}
    found = activity.order_statistics(scores, dict.fromkeys(scores, options.sparsity))
    for (layer, name), threshold in found.items():
        scale = norms[layer, name]
        own = threshold if scale is None else per_channel(threshold, scale)
        draft.add(InputThreshold(layer, name, own), options.sparsity)
    return draft


def top_k(activity: Activity, options: Sparsity, runs: Runs) -> Draft:
    """Read exactly k channels of largest ``|x_i|``, ``k = n - floor(sparsity n)``.

    Parameters
    ----------
    activity : Activity
        Of the calibration; the rules need none of it.
    options : Sparsity
        What is asked for.
    runs : Runs
        Not used.

    Returns
    -------
    Draft
        One `InputTopK` for each projection.
    """
    draft = Draft()
    for layer, name in projections_of(activity):
        draft.add(_top_k(activity, layer, name, options.sparsity), options.sparsity)
    return draft


def _top_k(
    activity: Activity, layer: int, name: str, sparsity: float, scale: Tensor | None = None
) -> InputTopK:
    channels = activity.linears[layer][name].inputs
    kept = channels - skipped_count(sparsity, channels)
    return InputTopK(layer, name, kept, None if scale is None else scale.cpu())


def _magnitude(layer: int, name: str, scale: Tensor | None = None) -> Score:
    site = (layer, site_of(name))
    plain = _neurons if name.endswith("down") else _inputs
    if scale is None:  # one function for all: projections that read the same are counted once
        return Score(site, plain)
    return Score(site, lambda look: plain(look) * rows_of(scale, look.experts))


def _inputs(look: Look) -> Tensor:
    return look.input.float().abs()


def _neurons(look: Look) -> Tensor:
    return look.neurons.float().abs()
