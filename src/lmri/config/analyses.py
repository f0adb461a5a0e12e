"""Sections of a study for what is done with recordings beside maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lmri.config.options import Options

NOT_GRADED = ("cache_heads", "cache_random", "ppl_search", "relu")
"""Policies of which a study has one plan, whatever its sparsities."""

OF_THE_CACHE = ("cache_heads", "cache_random")
"""Policies that need to be told which heads keep everything."""


@dataclass(frozen=True)
class SparseOptions(Options):
    """Policies that skip what a subject does not need, and how they are measured.

    Every policy is calibrated at every sparsity on recorded trials of the calibration split, of
    which it needs ``least_tokens`` and reads ``most_tokens``, and run on at most ``trials``
    evaluation trials of every task. ``dense_tokens`` first tokens of a trial are never sparse and
    are left out of the calibration. ``loss`` is the rise of perplexity that limits are told at.
    ``speed_tokens`` are generated to measure speed; 0 measures none. ``finding_policy`` at
    ``finding_sparsity`` is what findings are re-run under. ``full_heads`` are the heads, as
    [layer, head], that keep all keys and values under ``cache_heads``, and their number under
    ``cache_random``, which draws them by the seed of the study; all others keep ``cache_sinks`` and
    ``cache_window``. Neither policy can do without ``full_heads``.
    """

    policies: tuple[str, ...] = ()
    sparsities: tuple[float, ...] = (0.25, 0.4, 0.5, 0.65, 0.8, 0.9)
    dense_tokens: int = 1
    least_tokens: int = 1000
    most_tokens: int = 16384
    trials: int = 100
    rows: int = 64
    backend: str = "auto"
    loss: float = 0.01
    speed_tokens: int = 16
    finding_policy: str = "teal"
    finding_sparsity: float = 0.5
    full_heads: tuple[tuple[int, int], ...] = ()
    cache_sinks: int = 4
    cache_window: int = 64

    def problems(self) -> Iterator[str]:
        """Yield what no schema can say: plans that would have one name, or none."""
        percents = [round(100 * share, 6) for share in self.sparsities]
        odd = [share for share, own in zip(self.sparsities, percents, strict=True) if own % 1]
        if odd:
            yield f"'sparse.sparsities' must be whole percents, which name plans. Got {odd[0]}."
        if not self.policies:
            return
        of_the_cache = [name for name in self.policies if name in OF_THE_CACHE]
        if of_the_cache and not self.full_heads:
            yield (
                "'sparse.full_heads' must name the heads, as [layer, head], that keep everything "
                f"under {' and '.join(of_the_cache)}. Got none: take them from a map of heads, or "
                "leave these policies out of 'sparse.policies'."
            )
        if self.finding_policy in NOT_GRADED:
            yield (
                "'sparse.finding_policy' must be a policy with sparsities. Got "
                f"'{self.finding_policy}', which is one plan."
            )
        elif self.finding_policy in self.policies and self.finding_sparsity not in self.sparsities:
            yield (
                "'sparse.finding_sparsity' must be among 'sparse.sparsities' "
                f"({', '.join(map(str, self.sparsities))}). Got {self.finding_sparsity}."
            )

    @property
    def finding_plan(self) -> str:
        """Name of the plan that findings are re-run under; empty if its policy is not asked for."""
        if self.finding_policy not in self.policies:
            return ""
        return plan_name(self.finding_policy, self.finding_sparsity)


@dataclass(frozen=True)
class QuestionOptions(Options):
    """An attribute of the trials of a task that information is estimated about.

    ``target`` is a column of the table of trials; it follows from the values of ``carriers``,
    which ``scheme`` says how to exchange under the null: ``between`` values, ``within`` each value,
    or ``trials``.
    """

    task: str
    target: str = "condition"
    carriers: tuple[str, ...] = ()
    scheme: str = "between"


@dataclass(frozen=True)
class FollowOptions(Options):
    """Numbers of another stage that are followed over series of checkpoints.

    ``folder`` is what a rule writes for a subject, with ``{subject}`` in place of its name, below
    the study; ``store`` a map in it, and ``variable`` one of its variables, over any dimensions.
    """

    folder: str
    store: str
    variable: str


@dataclass(frozen=True)
class InformationOptions(Options):
    """What is told of information and geometry by layer, and over series of checkpoints.

    Without ``measures`` nothing is; ``sensitive`` is of series alone, ``logits`` of weights.
    ``questions`` are about attributes of trials; left out, they are about the condition of the
    tasks of all contrasts, and about the classes of their carriers.
    ``phases`` are those of the maps where they are left out. ``estimators`` are used for
    ``residual``, ``draws`` (of the probe ``probe_draws``) are those of each null. ``follow`` are
    numbers of other stages that go over series of checkpoints with those of the measures.
    """

    measures: tuple[str, ...] = ()
    questions: tuple[QuestionOptions, ...] = field(
        default=(), metadata={"section": QuestionOptions}
    )
    phases: tuple[str, ...] = ()
    estimators: tuple[str, ...] = ("probe", "compressed", "pair", "kt")
    draws: int = 99
    probe_draws: int = 39
    follow: tuple[FollowOptions, ...] = field(default=(), metadata={"section": FollowOptions})


def plan_name(policy: str, sparsity: float | None) -> str:
    """Name of the file of a plan.

    Parameters
    ----------
    policy : str
        The policy.
    sparsity : float or None
        What it was asked for; None for a policy that is not graded.

    Returns
    -------
    str
        ``<policy>_<percent>``, or the policy alone.
    """
    if sparsity is None:
        return policy
    return f"{policy}_{round(100 * sparsity):02d}"


@dataclass(frozen=True)
class BottleneckOptions(Options):
    """Small networks that an information-bottleneck study trains; no activations leaves it out.

    Every one of ``activations`` at every strength of ``l2`` is a setting, of which
    ``initialisations`` are trained together for ``epochs`` and recorded at about ``measured`` of
    them. aKDE is of ``samples`` inputs, with noise of each of ``variances`` (shares of the squared
    scale of a layer). ``bootstrap`` draws of initialisations make an interval.
    """

    activations: tuple[str, ...] = ()
    l2: tuple[float, ...] = (0.0, 0.015)
    initialisations: int = 20
    epochs: int = 2000
    measured: int = 20
    batch: int = 256
    rate: float = 0.0016
    samples: int = 1024
    variances: tuple[float, ...] = (0.001, 0.01)
    bootstrap: int = 2000

    @property
    def settings(self) -> dict[str, tuple[str, float]]:
        """Activation and strength of the penalty by the name of the setting."""
        return {
            f"{activation}_l2_{l2:g}" if l2 else activation: (activation, l2)
            for activation in self.activations
            for l2 in self.l2
        }
