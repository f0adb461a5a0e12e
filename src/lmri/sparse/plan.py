"""A policy calibrated for one subject: rules, what was asked, and what was achieved."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmri.sparse.rules import Rule

DENOMINATORS = ("channels", "neurons", "heads", "experts", "slots", "keys", "cache")
"""What a sparsity is a share of."""


@dataclass(frozen=True)
class Achieved:
    """Sparsity of one rule on the trials it was calibrated on.

    Attributes
    ----------
    layer : int
        The layer.
    rule : str
        One of :data:`lmri.sparse.rules.RULES`.
    site : str
        Projection, group of neurons, or ``attention``.
    asked : float or None
        Share to skip that was asked for; None where a rule has none.
    achieved : float
        Share that is skipped.
    denominator : str
        One of :data:`DENOMINATORS`.
    parameters : int
        Parameters whose reading the rule governs, at one token.
    skipped : float
        Parameters that are not read, mean over tokens.
    """

    layer: int
    rule: str
    site: str
    asked: float | None
    achieved: float
    denominator: str
    parameters: int
    skipped: float


@dataclass(frozen=True)
class Calibration:
    """What a plan was made from.

    Attributes
    ----------
    trials : tuple of str
        Trials, all of the calibration split.
    tokens : int
        Tokens of them that were looked at.
    left_out : int
        First tokens of every trial that were not looked at.
    """

    trials: tuple[str, ...] = ()
    tokens: int = 0
    left_out: int = 0


@dataclass(frozen=True, eq=False)
class SparsePlan:
    """Rules for one subject.

    Attributes
    ----------
    policy : str
        Name of the policy.
    subject : str
        Hash of the subject's weights; a plan is refused for any other.
    rules : tuple of Rule
        The rules; none is the dense model.
    parameters : dict
        Settings of the policy, plain JSON.
    dense_tokens : int
        First tokens of every sequence that are computed densely.
    dense_prefill : bool
        Whether passes over more than :data:`lmri.sparse.kernels.MOST_ROWS` rows stay dense, as in
        kernels that skip at decoding alone; by default they follow the rules by masked products.
    calibration : Calibration
        What the rules were made from.
    achieved : tuple of Achieved
        One for every rule.
    """

    policy: str
    subject: str
    rules: tuple[Rule, ...] = ()
    parameters: dict = field(default_factory=dict)
    dense_tokens: int = 0
    dense_prefill: bool = False
    calibration: Calibration = Calibration()
    achieved: tuple[Achieved, ...] = ()
