"""Removing a skill: neurons moved to where they are elsewhere, or prompts that are not answered.

Three ways are compared on the trials to forget and on those to retain. ``zero`` switches off the
neurons whose preactivations are larger on texts of the skill; ``adjust`` maps the same neurons to
their distribution on other texts (Neuron Adjust); ``key_space`` answers nothing whose keys in the
last layer lie in the hypercube of the skill's.

Source: Li et al. 2025, Effective skill unlearning (arXiv 2503.21730). The released code takes the
variance for the standard deviation, fits it on outputs of the activation function, and draws one
number for all neurons; :mod:`lmri.intervene` does not. Neurons of experts count 0 where their
expert reads no token.
"""

from __future__ import annotations

from dataclasses import replace

from lmri.checks import check_choice
from lmri.config import ConditionOptions, SkillsOptions, needed_draws
from lmri.errors import EvidenceError
from lmri.experiment.outcome import Drawn, Ground, Outcome
from lmri.experiment.skills.removal import Removal

STATEMENTS = 5
"""Of every skill."""


def run(ground: Ground, options: SkillsOptions) -> Outcome:
    """Remove every skill in three ways, and see what else goes.

    Parameters
    ----------
    ground : Ground
        What may be read.
    options : SkillsOptions
        Skills, what must stay, shares of neurons and sizes of the cube.

    Returns
    -------
    Outcome
        Five statements, and tables of curves and parts, of every skill.

    Raises
    ------
    EvidenceError
        If a task or condition is unknown, or a part has no trial in a split.
    """
    for own in (*options.forget, *options.retain):
        _check(ground, own)
    needed = needed_draws(STATEMENTS * len(options.forget), ground.evidence.alpha)
    found = Outcome([])
    for number, skill in enumerate(options.forget):
        removed = Removal(ground, options, skill, number)
        found.statements.extend(removed.statements(needed))
        found.tables[f"{removed.slug}_curves"] = removed.curve()
        found.tables[f"{removed.slug}_parts"] = removed.parts()
        captions = {f"{removed.slug}_{name}": text for name, text in CAPTIONS.items()}
        found.captions.update(captions)
        found.figures.extend(_figures(removed.slug, removed.skill.name))
        found.notes.append(removed.note())
    return replace(found)  # checked as a whole


def _check(ground: Ground, own: ConditionOptions) -> None:
    owner = "experiment 'skills'"
    check_choice(own.task, ground.stimuli, "task", owner, EvidenceError)
    if own.condition is not None:
        known = set(ground.stimuli[own.task]["condition"])
        check_choice(own.condition, known, "condition", owner, EvidenceError)


CAPTIONS = {
    "curves": (
        "Fall of the probability of right answers on evaluation trials: of the skill (forgotten, "
        "with its interval over carriers), and of the retained part that loses most. The dose is "
        "the share of neurons, or the factor of the cube's size; the chosen one did most on "
        "calibration trials beyond what the most harmed part lost."
    ),
    "parts": "Every part at the chosen dose, with exact answers beside the probability.",
}


def _figures(slug: str, name: str) -> list[Drawn]:
    return [
        Drawn(
            table=f"{slug}_curves",
            kind="line",
            x="retained_loss",
            y="forgotten",
            low="low",
            high="high",
            series="method",
            title=f"What is forgotten of '{name}' against what else is lost",
            caption="Good removal runs up along the left edge.",
            against="A line on which both axes have the same number takes as much from what should "
            "stay; the axes have scales of their own.",
        ),
        Drawn(
            table=f"{slug}_parts",
            kind="bars",
            x="part",
            y="loss",
            low="low",
            high="high",
            series="method",
            title=f"What every part loses where '{name}' is removed",
            caption="At the doses that calibration chose: only the first should lose anything.",
            against="Long bars further down are parts that should have stayed.",
        ),
    ]
