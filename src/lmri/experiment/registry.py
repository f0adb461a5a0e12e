"""The experiments by name, with what each asks and where its method is from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lmri.experiment import (
    circuit_reuse,
    copy_transition,
    language_network,
    relations,
    retrieval_heads,
    skills,
    steering,
    void_layers,
)
from lmri.experiment.outcome import Ground, Outcome


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes
    ----------
    title : str
        As the report names it.
    question : str
        What it asks, in one sentence.
    source : str
        Where its method is from.
    run : callable
        From what it may read and its options to what comes of it. The options are of the class
        that :data:`lmri.config.EXPERIMENTS` has under the same name.
    """

    title: str
    question: str
    source: str
    run: Callable[[Ground, Any], Outcome]


EXPERIMENTS: dict[str, Experiment] = {
    "void_layers": Experiment(
        title="Void layers",
        question="Can the layers that hardly change a token be passed over, and is it these?",
        source="Shemirani et al. 2025 (arXiv 2505.14467), L2 adaptive computation",
        run=void_layers.run,
    ),
    "steering": Experiment(
        title="Steering",
        question=(
            "Does a direction of the residual switch a behaviour on and off, more than random "
            "ones, and at which cost for all else?"
        ),
        source=(
            "Zou et al. 2023 (arXiv 2310.01405), representation engineering; Rahn et al. 2024 "
            "(arXiv 2406.00244), entropic activation steering; Makelov et al. 2023 (arXiv "
            "2311.17030), interpretability illusions"
        ),
        run=steering.run,
    ),
    "relations": Experiment(
        title="Relation-specific units",
        question=(
            "Are there units of single relations: does a relation lose more without more of them, "
            "do those of one serve another, do they stand in the way of a third?"
        ),
        source="Liu et al. 2025 (arXiv 2502.17355), relation-specific neurons",
        run=relations.run,
    ),
    "skills": Experiment(
        title="Removing a skill",
        question="Can a skill be removed while the rest stays, and by which means?",
        source="Li et al. 2025 (arXiv 2503.21730), Neuron Adjust and key-space detection",
        run=skills.run,
    ),
    "circuit_reuse": Experiment(
        title="Circuit reuse",
        question=(
            "Do different behaviours run on the same units, and can those of one mend another?"
        ),
        source="Merullo et al. 2024 (arXiv 2310.08744), circuit component reuse",
        run=circuit_reuse.run,
    ),
    "retrieval_heads": Experiment(
        title="Retrieval heads",
        question="Are the heads that look at the needle those that it is said with, and copies?",
        source="Wu et al. 2024 (arXiv 2404.15574), retrieval heads",
        run=retrieval_heads.run,
    ),
    "copy_transition": Experiment(
        title="Copy transition",
        question="What does training wait for before a model copies?",
        source=(
            "Singh et al. 2024 (arXiv 2404.07129), what needs to go right for an induction head; "
            "Olsson et al. 2022 (arXiv 2209.11895), induction heads"
        ),
        run=copy_transition.run,
    ),
    "language_network": Experiment(
        title="Language network",
        question="Do the units that respond most to sentences carry language, and only that?",
        source="AlKhamissi et al. 2025 (arXiv 2411.02280), the LLM language network",
        run=language_network.run,
    ),
}
"""In the order of the report."""
