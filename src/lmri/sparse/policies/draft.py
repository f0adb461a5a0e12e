"""What every policy gets and gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lmri.checks import check_choice
from lmri.errors import SparseError
from lmri.sparse.calibration import Activity
from lmri.sparse.calibration.looks import Site
from lmri.sparse.plan import SparsePlan
from lmri.sparse.plan_checks import check_sparsity
from lmri.sparse.rules import GROUPS, PROJECTIONS, Rule


@dataclass
class Draft:
    """Rules of a policy, before they are counted.

    Attributes
    ----------
    rules : list of Rule
        The rules.
    asked : list of float or None
        Share to skip that was asked for, one for each rule.
    found : dict
        What a search found, plain JSON; it becomes part of the plan's parameters.
    """

    rules: list[Rule] = field(default_factory=list)
    asked: list[float | None] = field(default_factory=list)
    found: dict = field(default_factory=dict)

    def add(self, rule: Rule, asked: float | None = None) -> None:
        """Add a rule and the share it was asked to skip."""
        self.rules.append(rule)
        self.asked.append(asked)


@dataclass(frozen=True)
class Runs:
    """What a policy may run, given by the caller.

    Attributes
    ----------
    perplexity : callable or None
        From a plan to the subject's perplexity under it, on texts of the calibration.
    """

    perplexity: Callable[[SparsePlan], float] | None = None


@dataclass(frozen=True)
class Sparsity:
    """Options of a policy that skips a share.

    Attributes
    ----------
    sparsity : float
        Share to skip, in [0, 1).
    """

    sparsity: float = 0.5

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity, f"the options {type(self).__name__}")


def projections_of(
    activity: Activity, names: Sequence[str] | None = None
) -> Iterator[tuple[int, str]]:
    """Projections of a subject in the order of layers.

    Parameters
    ----------
    activity : Activity
        Of the subject.
    names : sequence of str, optional
        Only these; by default all.

    Yields
    ------
    layer : int
        A layer.
    name : str
        One of :data:`lmri.sparse.rules.PROJECTIONS`.

    Raises
    ------
    SparseError
        If a name is unknown, or the subject has none of them.
    """
    for name in names or ():
        check_choice(name, PROJECTIONS, "projections", "a policy", SparseError)
    found = [
        (layer, name)
        for layer, parts in activity.linears.items()
        for name in PROJECTIONS
        if name in parts and (names is None or name in names)
    ]
    if not found:
        raise SparseError(
            f"The 'projections' of a policy must be some that the subject has. Got {list(names)} "
            f"for '{activity.subject.name}' ({activity.subject.anatomy.architecture})."
        )
    yield from found


def groups_of(activity: Activity) -> Iterator[Site]:
    """Layers and groups of neurons of a subject, see :data:`lmri.sparse.rules.GROUPS`."""
    for layer, groups in activity.mlps.items():
        yield from ((layer, group) for group in GROUPS if group in groups)


def column_norms(weight: Tensor) -> Tensor:
    """Euclidean norms of the columns of weights: what a channel writes if it is 1.

    Parameters
    ----------
    weight : Tensor of shape (outputs, inputs) or (experts, outputs, inputs)
        Weights.

    Returns
    -------
    Tensor of shape (inputs,) or (experts, inputs), float32
        The norms.
    """
    return weight.float().norm(dim=-2)


def per_channel(threshold: Tensor, scale: Tensor) -> Tensor:
    """Turn a threshold of ``|x_i| s_i`` into those of ``|x_i|``: ``t_i = T / s_i``.

    Parameters
    ----------
    threshold : Tensor of shape (), float32
        T.
    scale : Tensor of shape (n,) or (experts, n), float32
        s, not negative.

    Returns
    -------
    Tensor of the shape of ``scale``, float32
        Thresholds; 0 where T is, infinite where s alone is 0: such a channel changes nothing.
    """
    if threshold == 0:
        return torch.zeros_like(scale, dtype=torch.float32, device="cpu")
    return (threshold.double() / scale.double().cpu()).float()


def rows_of(scale: Tensor, experts: Tensor | None) -> Tensor:
    """Scales of each row: of its expert where they differ between experts."""
    return scale if scale.dim() == 1 else scale[experts]
