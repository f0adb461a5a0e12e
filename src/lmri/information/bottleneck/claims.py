"""Claims of the paper, each with the statistic and the rule that decide it.

The rules stand here, before any run: a claim ``holds`` in a channel where the whole interval of its
statistic is on its side of the bound, ``does not hold`` where all of it is on the other, and is
``not decided`` otherwise. Over channels it is decided only where EBAB and aKDE at every strength of
noise say the same, since any one channel can mistake a change of scale for compression. Fixed
bins are shown beside and decide nothing: they follow the scale of a layer, which is what the paper
made adaptive estimators for.

Intervals are percentiles of a bootstrap over initialisations. Networks of one initialisation begin
from the same draws in every setting, so they are drawn together.

The claims are as third-party notes on the paper tell them (its text was not available); numbers
from its figures are not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from lmri.information.bottleneck.measure import FIXED_BINS
from lmri.information.bottleneck.scores import HIDDEN, OUTPUT, Trajectories, compression

LEAST = 0.05
"""A loss of less of its information is not called compression of a layer."""

NEGLIGIBLE = 0.3
"""A correlation that lies within this of 0, with its interval, is called none."""

LEVEL = 0.95
LEAST_NETWORKS = 5
"""Networks below which nothing is decided."""

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decided"

ALL = "all"
"""In the place of a channel: those that decide, together."""

Statistic = Callable[[Trajectories, str, np.ndarray], float]


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes
    ----------
    name, text : str
        Its name, and what it says in one sentence.
    statistic : callable
        Takes the study, a channel and numbers of initialisations, and gives a number.
    meaning : str
        What that number is.
    rule : str
        ``above`` or ``below`` the bound, or ``none``: 0 in an interval within the bound of it.
    bound : float
        See ``rule``.
    settings : tuple of (str, bool)
        Activations it is about, without or with the penalty; empty for all of the study.
    paired : bool
        Whether it compares networks of one initialisation, so that both must have learned.
    """

    name: str
    text: str
    statistic: Statistic
    meaning: str
    rule: str
    bound: float
    settings: tuple[tuple[str, bool], ...] = ()
    paired: bool = False


def decide(rule: str, bound: float, low: float, high: float) -> str:
    """Decide by an interval.

    Parameters
    ----------
    rule : str
        ``above``, ``below`` or ``none``.
    bound : float
        See :class:`Claim`.
    low, high : float
        Interval of the statistic; NaN decides nothing.

    Returns
    -------
    str
        ``holds``, ``does not hold`` or ``not decided``.
    """
    if rule == "none":
        holds = low <= 0 <= high and -bound < low and high < bound
        fails = low > 0 or high < 0
    elif rule == "above":
        holds, fails = low > bound, high < bound
    else:
        holds, fails = high < bound, low > bound
    if holds:
        return HOLDS
    return FAILS if fails else OPEN


def decide_claims(study: Trajectories, draws: int, seed: int) -> pd.DataFrame:
    """Put every claim to the test in every channel.

    Parameters
    ----------
    study : Trajectories
        The study.
    draws : int
        Draws of the bootstrap.
    seed : int
        Its seed.

    Returns
    -------
    DataFrame
        One row for each claim and channel, and one for all channels that decide: ``claim``,
        ``text``, ``meaning``, ``rule``, ``bound``, ``channel``, ``value``, ``low``, ``high``,
        ``n`` (networks, or pairs of them, that have learned) and ``verdict``.
    """
    rows = []
    for claim in CLAIMS:
        own = [_test(claim, study, channel, draws, seed) for channel in study.information]
        deciding = {row["verdict"] for row in own if row["channel"] != FIXED_BINS}
        verdict = deciding.pop() if len(deciding) == 1 else OPEN
        nothing = dict.fromkeys(("value", "low", "high"), np.nan)
        together = {"channel": ALL, **nothing, "n": own[0]["n"], "verdict": verdict}
        about = {name: getattr(claim, name) for name in ("text", "meaning", "rule", "bound")}
        rows += [{"claim": claim.name, **about, **row} for row in (together, *own)]
    return pd.DataFrame(rows)


def bootstrap(
    statistic: Callable[[np.ndarray], float | np.ndarray], n: int, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a statistic over initialisations.

    Parameters
    ----------
    statistic : callable
        Takes numbers of initialisations, drawn with replacement.
    n : int
        Initialisations.
    draws, seed : int
        Draws and their seed.

    Returns
    -------
    low, high : ndarray
        Percentiles at :data:`LEVEL`, of the shape of the statistic; draws without a value, as
        those in which no network has learned, are left out.
    """
    rng = np.random.default_rng([seed, 4])
    values = np.array([statistic(rng.integers(0, n, size=n)) for _ in range(draws)])
    tail = 50 * (1 - LEVEL)
    missing = np.isnan(values).all(axis=0)
    kept = np.where(missing, 0.0, values)
    low, high = np.nanpercentile(kept, [tail, 100 - tail], axis=0)
    return np.where(missing, np.nan, low), np.where(missing, np.nan, high)


def pooled_correlation(scores: np.ndarray, accuracy: np.ndarray) -> float:
    """Rank correlation of compression and test accuracy within settings.

    Parameters
    ----------
    scores, accuracy : ndarray of shape (setting, initialisation)
        NaN scores are left out. Ranks are those within a setting, about their mean, so that
        differences between activations make no correlation.

    Returns
    -------
    float
        In [-1, 1]; NaN where nothing varies.
    """
    kept = np.isfinite(scores)
    x, y = (_centred_ranks(values, kept) for values in (scores, accuracy))
    scale = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / scale) if scale > 0 else float("nan")


def _centred_ranks(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Ranks within each row about their mean; 0 for what is not kept."""
    # What is left out ranks last, which leaves the ranks of the others alone.
    ranks = np.where(kept, rankdata(np.where(kept, values, np.inf), axis=1), np.nan)
    return np.where(kept, ranks - mean_over(ranks, axis=1)[:, None], 0.0)


def mean_over(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Mean of what is not NaN; NaN where nothing is, without a warning."""
    kept = np.isfinite(values)
    counts = kept.sum(axis=axis)
    total = np.where(kept, values, 0).sum(axis=axis)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _test(
    claim: Claim, study: Trajectories, channel: str, draws: int, seed: int
) -> dict[str, object]:
    places = [study.place(*own) for own in claim.settings] or list(range(len(study.settings)))
    row = {"channel": channel, "value": np.nan, "low": np.nan, "high": np.nan, "n": 0}
    if None in places:
        return {**row, "verdict": OPEN}
    learned = study.learned[places]
    if claim.paired:
        counts = learned.all(axis=0).sum()
    else:
        # A claim about the whole study does without a setting in which nothing was learned.
        counts = learned.sum(axis=1 if claim.settings else None)
    row["n"] = int(counts.sum())
    if counts.min() < LEAST_NETWORKS:
        return {**row, "verdict": OPEN}
    n = study.learned.shape[1]
    row["value"] = claim.statistic(study, channel, np.arange(n))
    low, high = bootstrap(lambda chosen: claim.statistic(study, channel, chosen), n, draws, seed)
    row.update(low=float(low), high=float(high))
    return {**row, "verdict": decide(claim.rule, claim.bound, row["low"], row["high"])}


def _hidden(study: Trajectories, channel: str, place: int, chosen: np.ndarray) -> np.ndarray:
    """Mean score of the hidden layers of each chosen network of a setting."""
    return mean_over(study.scores[channel][place, chosen, HIDDEN], axis=1)


def _mean_score(activation: str) -> Statistic:
    def statistic(study: Trajectories, channel: str, chosen: np.ndarray) -> float:
        return float(mean_over(_hidden(study, channel, study.place(activation), chosen)))

    return statistic


def _score_of_average(study: Trajectories, channel: str, chosen: np.ndarray) -> float:
    place = study.place("relu")
    learned = chosen[study.learned[place, chosen]]
    if not len(learned):
        return float("nan")
    average = study.information[channel][place, learned, HIDDEN].mean(axis=0)
    return float(mean_over(compression(average)))


def _spread_of_scores(study: Trajectories, channel: str, chosen: np.ndarray) -> float:
    own = _hidden(study, channel, study.place("relu"), chosen)
    own = own[np.isfinite(own)]
    return float(own.std()) if len(own) else float("nan")


def _tanh_lead(study: Trajectories, channel: str, chosen: np.ndarray) -> float:
    others = {name for name, _ in study.settings.values()} - {"tanh"}
    places = [place for name in others if (place := study.place(name)) is not None]
    means = [float(mean_over(_hidden(study, channel, place, chosen))) for place in places]
    most = max((own for own in means if np.isfinite(own)), default=float("nan"))
    return _mean_score("tanh")(study, channel, chosen) - most


def _gain_by_penalty(study: Trajectories, channel: str, chosen: np.ndarray) -> float:
    without, with_l2 = (
        _hidden(study, channel, study.place("relu", l2), chosen) for l2 in (False, True)
    )
    return float(mean_over(with_l2 - without))


def _drawn_together(study: Trajectories, channel: str, chosen: np.ndarray) -> float:
    places = study.place("relu"), study.place("relu", True)
    both = chosen[study.learned[places[0], chosen] & study.learned[places[1], chosen]]
    if not len(both):
        return float("nan")
    last = study.information[channel][:, :, HIDDEN, -1]
    without, with_l2 = (last[place, both].std(axis=1) for place in places)
    return float((without - with_l2).mean())


def _hidden_correlation(study: Trajectories, channel: str, chosen: np.ndarray) -> float:
    scores = mean_over(study.scores[channel][:, chosen, HIDDEN], axis=2)
    return pooled_correlation(scores, study.accuracy[:, chosen])


def _output_correlation(study: Trajectories, channel: str, chosen: np.ndarray) -> float:
    return pooled_correlation(study.scores[channel][:, chosen, OUTPUT], study.accuracy[:, chosen])


MEAN = "mean compression of the hidden layers"

CLAIMS = (
    *(
        Claim(
            f"{activation}_compresses",
            f"Hidden layers of {words} networks compress.",
            _mean_score(activation),
            MEAN,
            "above",
            LEAST,
            ((activation, False),),
        )
        for activation, words in (
            ("tanh", "tanh"),
            ("elu", "ELU"),
            ("swish", "Swish"),
            ("centred_softplus", "centred softplus"),
        )
    ),
    Claim(
        "tanh_most",
        "Hidden layers of tanh networks compress more than those of any other activation.",
        _tanh_lead,
        "mean compression of tanh less the largest of the others",
        "above",
        0.0,
        (("tanh", False), ("relu", False)),
    ),
    Claim(
        "relu_average",
        "Averaged over initialisations, ReLU networks show no compression phase.",
        _score_of_average,
        "compression of the averaged curve, mean of the hidden layers",
        "below",
        LEAST,
        (("relu", False),),
    ),
    Claim(
        "relu_varies",
        "ReLU networks of different initialisations compress very differently.",
        _spread_of_scores,
        "standard deviation of the compression over initialisations",
        "above",
        LEAST,
        (("relu", False),),
    ),
    Claim(
        "l2_compresses",
        "The penalty L2 makes ReLU networks compress more.",
        _gain_by_penalty,
        "compression with L2 less that without, same initialisation",
        "above",
        0.0,
        (("relu", False), ("relu", True)),
        paired=True,
    ),
    Claim(
        "l2_draws_together",
        "The penalty L2 draws the layers of ReLU networks to one value of I(X;T).",
        _drawn_together,
        "standard deviation of I(X;T) over hidden layers at the end, without L2 less with it, nat",
        "above",
        0.0,
        (("relu", False), ("relu", True)),
        paired=True,
    ),
    Claim(
        "hidden_uncorrelated",
        "Compression of hidden layers does not go with generalisation.",
        _hidden_correlation,
        "rank correlation with test accuracy within settings",
        "none",
        NEGLIGIBLE,
    ),
    Claim(
        "output_correlated",
        "Compression of the output layer goes with better generalisation.",
        _output_correlation,
        "rank correlation with test accuracy within settings",
        "above",
        0.0,
    ),
)
"""The claims, in the order of the report."""
