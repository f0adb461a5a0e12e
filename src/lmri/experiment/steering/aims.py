"""What vectors are to do, and the search for where and how much they do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.config import SteeringOptions
from lmri.experiment.measuring import prompts_of, scores_under, trials_of
from lmri.experiment.outcome import Ground
from lmri.experiment.steering.directions import Sides, entropies_under, plan_along
from lmri.intervene import INTACT, Plan, search_scale

ENTROPY = "entropy"
"""Score of a vector that is to make the subject uncertain: that of its next token, in nats."""

UNCERTAIN = "entropy_weighted"


@dataclass(frozen=True)
class Aim:
    """What a vector is to do.

    Attributes
    ----------
    vector, verb : str
        Name of the vector; ``induces``, ``removes`` or ``unsettles``.
    condition : tuple of str
        Conditions of the trials.
    sign : int
        Of the scale: towards the target, or away from it.
    score : str
        What is measured.
    """

    vector: str
    verb: str
    condition: tuple[str, ...]
    sign: int
    score: str

    @property
    def rises(self) -> int:
        """Whether the score is to rise (1) or to fall (-1)."""
        return -1 if self.verb == "removes" else 1

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.vector.replace('_', ' ')} {self.verb}"

    @property
    def claim(self) -> str:
        """Name of its statement."""
        return f"{self.verb}_{self.vector}"

    @property
    def sentence(self) -> str:
        """Its statement."""
        where, vector = " and ".join(self.condition), self.vector.replace("_", " ")
        does = {
            "induces": f"brings the behaviour about in {where}",
            "removes": f"takes the behaviour away in {where}",
            "unsettles": f"makes the next token less certain in {where}",
        }[self.verb]
        return f"The {vector} {does}, more than random directions and sham vectors of its length."


@dataclass(frozen=True)
class Found:
    """Layer and scale of an aim, found on calibration trials.

    Attributes
    ----------
    layer : int
        The layer.
    step : ndarray of shape (hidden,), float64
        What is added: the vector times its signed scale.
    scale : float
        The signed scale.
    """

    layer: int
    step: np.ndarray
    scale: float


@dataclass(frozen=True)
class Setting:
    """What an experiment is about.

    Attributes
    ----------
    ground : Ground
        The subject and the trials.
    options : SteeringOptions
        The options.
    task : str
        The task of the contrast.
    sides : Sides
        States of selection trials.
    vectors : dict of str to ndarray of shape (layers, hidden)
        By name.
    """

    ground: Ground
    options: SteeringOptions
    task: str
    sides: Sides
    vectors: dict[str, np.ndarray]

    def trials(self, conditions: Sequence[str], split: str) -> pd.DataFrame:
        """Trials of conditions in a split."""
        return trials_of(self.ground, self.task, split, conditions, self.options.trials)

    def scores(self, aim: Aim, trials: pd.DataFrame, plans: Sequence[Plan]) -> np.ndarray:
        """Score of an aim under every plan, (n_plans, n_trials)."""
        if aim.score == ENTROPY:
            return entropies_under(self.ground, prompts_of(self.ground, trials), plans)
        return scores_under(self.ground, trials, plans, aim.score)


def aims_of(
    ground: Ground, vector: str, target: tuple[str, ...], control: tuple[str, ...]
) -> list[Aim]:
    """What a vector is to do.

    Parameters
    ----------
    ground : Ground
        With the score of the behaviour.
    vector : str
        Name of the vector.
    target, control : tuple of str
        Conditions that it leads to, and from.

    Returns
    -------
    list of Aim
        To bring the behaviour about and to take it away, or to make the next token less certain.
    """
    if vector == UNCERTAIN:
        return [Aim(vector, "unsettles", control, 1, ENTROPY)]
    score = ground.evidence.score
    return [
        Aim(vector, "induces", control, 1, score),
        Aim(vector, "removes", target, -1, score),
    ]


def search(setting: Setting, aim: Aim) -> tuple[Found | None, list[dict]]:
    """Find the layer that reaches the target at the smallest scale, on calibration trials.

    Parameters
    ----------
    setting : Setting
        Vectors, scales, trials.
    aim : Aim
        What is to be reached.

    Returns
    -------
    found : Found or None
        Of several layers the one with the largest effect; None where none reaches the target.
    tried : list of dict
        Every layer and scale that was tried, as rows.
    """
    trials = setting.trials(aim.condition, "calibration")
    prompts = prompts_of(setting.ground, trials)
    (intact,) = setting.scores(aim, trials, [INTACT])
    tried, best = [], None
    for layer, vector in enumerate(setting.vectors[aim.vector]):

        def effect(scale: float, layer: int = layer, vector: np.ndarray = vector):
            plan = plan_along(setting.ground, layer, vector, aim.sign * scale)
            (score,) = setting.scores(aim, trials, [plan])
            (entropy,) = entropies_under(setting.ground, prompts, [plan])
            risen = float(entropy.mean()) - setting.sides.uncertainty
            calm = aim.score == ENTROPY or risen <= setting.options.most_entropy
            return aim.rises * float((score - intact).mean()), calm

        own = search_scale(effect, setting.options.scales, setting.options.target_effect)
        tried += [{"aim": aim.name, "layer": layer, **entry} for entry in own.tried]
        if own.scale is not None:
            key = own.scale, -own.tried[-1]["effect"], layer
            best = key if best is None else min(best, key)
    if best is None:
        return None, tried
    scale, _, layer = best
    vector = setting.vectors[aim.vector][layer]
    return Found(layer, aim.sign * scale * vector, aim.sign * scale), tried


def missed(tried: list[dict]) -> str:
    """Say how far a search got that found nothing."""
    most = max((own["effect"] for own in tried if own["admissible"]), default=float("nan"))
    return (
        "no layer and scale reaches the target on calibration trials with a next token that stays "
        f"certain enough (at most {round(most, 2) + 0.0:.2f})"
    )
