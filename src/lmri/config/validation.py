"""How findings are put to the test, and which claims a study makes of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lmri.checks import quoted
from lmri.config.options import Options

if TYPE_CHECKING:
    from lmri.config.study import StudyConfig

CLAIM_KINDS = (
    *("specificity", "sufficiency", "dose", "cumulativity", "jointness"),
    *("interference", "transfer", "repair"),
)
"""What may be claimed beside necessity, which every hypothesis claims."""

DEFAULT_CLAIMS = ("specificity", "sufficiency", "dose", "transfer")
PLACED = ("interference", "transfer", "repair")
"""Claims that are made of other trials than those of the target."""

SHAMMED = ("sufficiency", "transfer", "repair")
"""Claims whose p is at least the rank p among sham maps."""

ACROSS = ("transfer", "repair")
"""Claims that may be made of another subject."""


@dataclass(frozen=True)
class ClaimOptions(Options):
    """A claim that every hypothesis makes beside its primary one.

    ``task`` and ``condition`` say which trials a claim is made of, by default those of the contrast
    (its transfer, or its target); ``score`` how they are scored; ``subject`` in which other subject
    of the same anatomy, whose units are those at the same places.
    """

    kind: str
    task: str | None = None
    condition: str | None = None
    score: str | None = None
    subject: str | None = None


@dataclass(frozen=True)
class ValidateOptions(Options):
    """Resamples of the carriers, the size of the re-runs, and the claims beside the primary one.

    ``kernel_trials`` evaluation trials are repeated on the kernels at batch 1. With more than one
    of ``shards``, control draws are scored by as many jobs before.
    """

    bootstrap: int = 2000
    rows: int = 1024
    control_bystander_trials: int = 40
    kernel_trials: int = 16
    shards: int = 1
    claims: tuple[ClaimOptions, ...] = field(
        default=tuple(ClaimOptions(kind) for kind in DEFAULT_CLAIMS),
        metadata={"section": ClaimOptions},
    )

    def __post_init__(self) -> None:
        """Take a claim that is given by its kind alone."""
        claims = (ClaimOptions(own) if isinstance(own, str) else own for own in self.claims)
        object.__setattr__(self, "claims", tuple(claims))

    def to_dict(self) -> dict[str, Any]:
        """Return the section as plain JSON values: that nothing is claimed is told, too."""
        return {**super().to_dict(), "claims": [own.to_dict() for own in self.claims]}

    def secondary(self, subjects: Collection[str]) -> int:
        """Count the secondary claims of a finding, where most are made.

        Parameters
        ----------
        subjects : collection of str
            Subjects of the study: each makes no claim about itself as another.

        Returns
        -------
        int
            Claims that are corrected for each other.
        """
        kinds = [own for own in self.claims if own.kind != "specificity"]
        alone = sum(own.subject is None for own in kinds)
        across = (sum(own.subject not in (None, name) for own in kinds) for name in subjects)
        return alone + max(across, default=0)

    @property
    def shammed(self) -> bool:
        """Whether any claim is tested against sham maps."""
        return any(own.kind in SHAMMED for own in self.claims)

    @property
    def others(self) -> tuple[str, ...]:
        """Subjects that claims of other subjects are tested in."""
        return tuple(dict.fromkeys(own.subject for own in self.claims if own.subject is not None))


def claim_problems(study: StudyConfig) -> Iterator[str]:
    """Find contradictions between the claims of a study and the rest of it.

    Parameters
    ----------
    study : StudyConfig
        The study.

    Yields
    ------
    str
        One line for each, naming the key.
    """
    seen = set()
    for index, claim in enumerate(study.validate.claims):
        where = f"validate.claims.{index}"
        if claim.kind not in CLAIM_KINDS:
            yield f"'{where}' must be one of {quoted(CLAIM_KINDS)}. Got '{claim.kind}'."
        if claim in seen:
            yield f"'validate.claims' must not make one claim twice. Got '{claim.kind}' again."
        seen.add(claim)
        yield from _trials(where, claim, study)
        yield from _subject(where, claim, study)
    if study.evidence.score == "onset_margin":
        yield (
            "'evidence.score' must be a score in [0, 1]. Got 'onset_margin', in logits: claims may "
            "have it as theirs."
        )
    stop, draws = study.evidence.stop_after, study.evidence.sham_draws(study.claims)
    if stop is not None and stop > draws:
        yield (
            f"'evidence.stop_after' must be at most the {draws} sham maps of a primary endpoint, "
            f"or it stops nothing. Got {stop}."
        )


def _trials(where: str, claim: ClaimOptions, study: StudyConfig) -> Iterator[str]:
    if claim.kind not in PLACED and (claim.task or claim.condition or claim.score):
        yield (
            f"'{where}' must have 'task', 'condition' or 'score' only for {quoted(PLACED)}. "
            f"Got them for '{claim.kind}'."
        )
    if claim.kind == "interference" and claim.task is None:
        yield f"missing key 'task' in '{where}'. It says which behaviour is to improve."
    if claim.kind == "repair" and claim.task is None and claim.subject is None:
        yield f"missing key 'task' in '{where}'. It says where the behaviour is to be mended."
    if claim.condition is not None and claim.task is None:
        yield f"missing key 'task' in '{where}'. It is needed beside 'condition'."
    if claim.task is not None and claim.task not in study.tasks:
        yield f"'{where}.task' must be one of {quoted(study.tasks)}. Got '{claim.task}'."


def _subject(where: str, claim: ClaimOptions, study: StudyConfig) -> Iterator[str]:
    if claim.subject is None:
        return
    if claim.kind not in ACROSS:
        yield f"'{where}.subject' must be given only for {quoted(ACROSS)}. Got '{claim.kind}'."
    if claim.subject not in study.subjects:
        yield f"'{where}.subject' must be one of {quoted(study.subjects)}. Got '{claim.subject}'."
