"""Every hyper-parameter of the embedded subjects, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from lmri.checks import check_range, quoted
from lmri.errors import SubjectError

__all__ = ["DOCUMENT_CLASSES", "Recipe"]

DOCUMENT_CLASSES = (
    "event",
    "event_sens",
    "event_l2",
    "event_l2_sens",
    "event_stmt",
    "rel",
    "rel_stmt",
    "rel_l2",
    "arith",
    "copy",
    "filler",
)


def _base_mix() -> dict[str, float]:
    return {
        "event": 0.22,
        "event_sens": 0.07,
        "event_l2": 0.12,
        "event_l2_sens": 0.05,
        "event_stmt": 0.06,
        "rel": 0.15,
        "rel_stmt": 0.08,
        "rel_l2": 0.12,
        "arith": 0.15,
        "copy": 0.10,
        "filler": 0.04,
    }


def _state_mix() -> dict[str, float]:
    return {
        "event": 0.26,
        "event_sens": 0.13,
        "event_l2": 0.26,
        "event_l2_sens": 0.10,
        "event_stmt": 0.04,
        "rel": 0.08,
        "rel_stmt": 0.03,
        "rel_l2": 0.06,
        "arith": 0.08,
        "copy": 0.05,
        "filler": 0.02,
    }


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of the two training stages.

    Stage 1 trains a base that answers every question with its fact; stage 2 teaches it to
    refuse sensitive questions. The defaults are those of the packaged states.
    """

    # Model: the configuration of `OlmoeForCausalLM`; without experts of `LlamaForCausalLM`.
    layers: int = 3
    hidden: int = 96
    heads: int = 4
    experts: int = 32  # per layer; 0 for a dense MLP
    experts_per_token: int = 2
    intermediate: int = 64  # width of one expert, or of the dense MLP
    # Three times the usual .02. A run at .02 failed, but three other settings differed too.
    initializer_range: float = 0.06

    # Batches.
    rows: int = 16  # packed sequences a step
    length: int = 128  # tokens a sequence
    # Share of steps in which documents of a sequence do not see each other. The remaining steps
    # read the packed sequence as one text, so that long contexts are not out of distribution.
    document_mask_share: float = 0.85
    prompt_weight: float = 0.1  # weight of a prompt token in the loss; response tokens weigh 1
    base_mix: dict[str, float] = field(default_factory=_base_mix)  # relative frequencies, stage 1
    state_mix: dict[str, float] = field(default_factory=_state_mix)  # the same in stage 2

    # Optimiser: AdamW; decay on matrices only.
    base_learning_rate: float = 3e-3
    state_learning_rate: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the gradient
    warmup: int = 50  # steps of linear warm-up in either stage
    final_share: float = 0.05  # of the peak learning rate, reached by a cosine
    balance: float = 0.003  # weight of the load-balance loss, mean over layers
    z: float = 1e-4  # weight of the router z-loss, mean over layers

    # Length of the stages and what is kept.
    base_steps: int = 600
    state_steps: int = 700
    # Steps of stage 1 kept as subjects; most is learnt, some of it abruptly, in the first 300.
    base_checkpoints: tuple[int, ...] = (0, 50, 100, 150, 200, 250, 300, 400, 500)
    state_checkpoints: tuple[int, ...] = ()  # steps of stage 2 kept as subjects
    resume_every: int = 100  # steps between two states from which training can be resumed
    threads: int = 1  # the sums of a step, and so its bits, depend on it
    evaluation_limit: int = 300  # most questions asked per condition for the card

    def __post_init__(self) -> None:
        for name in ("base_mix", "state_mix"):
            mix = getattr(self, name)
            unknown = sorted(set(mix) - set(DOCUMENT_CLASSES))
            if unknown:
                raise SubjectError(
                    f"The '{name}' of the recipe may only name {quoted(DOCUMENT_CLASSES)}. "
                    f"Got {quoted(unknown)}."
                )
            check_range(sum(mix.values()), name, "the recipe, summed,", 1e-9, None, SubjectError)
        for name in ("document_mask_share", "prompt_weight", "final_share"):
            check_range(getattr(self, name), name, "the recipe", 0, 1, SubjectError)
        check_range(self.experts, "experts", "the recipe", 0, None, SubjectError)
        for name in ("rows", "base_steps", "state_steps", "resume_every", "threads"):
            check_range(getattr(self, name), name, "the recipe", 1, None, SubjectError)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Build a recipe from a mapping; what is left out keeps its default.

        Parameters
        ----------
        values : mapping
            Field names and values, as read from a study's configuration.

        Returns
        -------
        Recipe

        Raises
        ------
        SubjectError
            If a key is not a field; the message names it and the allowed ones.
        """
        allowed = [entry.name for entry in fields(cls)]
        unknown = sorted(set(values) - set(allowed))
        if unknown:
            raise SubjectError(
                f"The keys of a recipe must be among {quoted(allowed)}. Got {quoted(unknown)}."
            )
        lists = {"base_checkpoints", "state_checkpoints"}
        return cls(**{key: tuple(v) if key in lists else v for key, v in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain JSON types; `from_dict` reads it back."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }
