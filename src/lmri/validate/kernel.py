"""The finding repeated on the kernels that really skip, one trial at a time.

Verdicts are reached on masked products in batches: the reference. A sample of the evaluation trials
is run again as a subject would be used, at batch 1, under the finding's units as a sparse plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lmri.anatomy import Anatomy, Subject
from lmri.errors import SparseError
from lmri.intervene import KINDS, OFF_MODES, Unit
from lmri.score import Scorer
from lmri.sparse.plan import SparsePlan
from lmri.sparse.rules import KeptHeads, KeptNeurons, Rule, SkippedExperts
from lmri.sparse.runtime import sparse
from lmri.validate.arms import Bench, Part
from lmri.validate.plan_arms import INTACT_ARM
from lmri.validate.rerun import LOGITS

TOLERANCE = 1e-3
"""Largest difference of a logit that is rounding."""


@dataclass(frozen=True)
class KernelRepeat:
    """How the kernels agree with the reference.

    Attributes
    ----------
    backend : str
        What ran; empty where the plan could not be executed.
    n : int
        Trials that were repeated.
    agreeing : int
        Those with the same score.
    reason : str
        Why nothing was run, or with what trials differ.
    """

    backend: str = ""
    n: int = 0
    agreeing: int = 0
    reason: str = ""

    @property
    def disagrees(self) -> bool:
        """Whether any trial differs."""
        return self.agreeing < self.n


def repeat_on_kernel(
    subject: Subject,
    finding: dict,
    part: Part,
    reference: np.ndarray,
    *,
    limits: dict[str, float],
    trials: int,
    seed: int,
    scorers: Mapping[str, Scorer] | None = None,
) -> KernelRepeat:
    """Run a sample of trials again on kernels and compare their scores.

    Parameters
    ----------
    subject : Subject
        The finding's subject.
    finding : dict
        With a primary endpoint.
    part : Part
        Evaluation trials of the target.
    reference : ndarray of shape (n_trials,), float64
        Their scores at the primary endpoint, by the reference.
    limits : dict
        Limits of coherence.
    trials : int
        Size of the sample, at most.
    seed : int
        Seed of the sample.
    scorers : mapping of str to Scorer, optional
        Scorers that decide beside the scores of every response.

    Returns
    -------
    KernelRepeat
        What was found; with a reason where the runtime cannot execute the plan.
    """
    endpoint = finding["primary_endpoint"]
    units = [tuple(unit) for unit in endpoint["units"]]
    try:
        rules = plan_rules(finding["kind"], endpoint["mode"], units, subject.anatomy)
    except SparseError as error:
        return KernelRepeat(reason=str(error))
    rng = np.random.default_rng([seed, 12])
    rows = np.sort(rng.choice(len(reference), min(trials, len(reference)), replace=False))
    chosen = part.trials.iloc[rows].reset_index(drop=True)
    bench = Bench(subject, 1, endpoint["max_new_tokens"], limits, scorers)
    try:
        with sparse(subject, SparsePlan("finding", "", rules), _backend(subject)) as session:
            (values,) = bench.quick([INTACT_ARM], chosen, endpoint["score"])
    except SparseError as error:
        return KernelRepeat(reason=str(error))
    known = reference[rows]
    close = TOLERANCE if endpoint["score"] == LOGITS else 0.0
    same = np.isclose(values, known, rtol=0, atol=close, equal_nan=True)
    # Without the names of trials, which a report may have to keep to itself.
    reason = "" if same.all() else f"{int((~same).sum())} of {len(rows)} trials differ"
    return KernelRepeat(session.backend, len(rows), int(same.sum()), reason)


def plan_rules(kind: str, mode: str, units: Iterable[Unit], anatomy: Anatomy) -> tuple[Rule, ...]:
    """Write units that are off as rules of a sparse plan.

    Parameters
    ----------
    kind, mode : str
        Of the units, and what is done to them.
    units : iterable of tuple of int
        The units.
    anatomy : Anatomy
        Of the subject.

    Returns
    -------
    tuple of Rule
        One for every layer, or expert with neurons that are off.

    Raises
    ------
    SparseError
        If the runtime has no rule for it.
    """
    off: dict[Unit, set[int]] = {}
    for *where, last in units:
        off.setdefault(tuple(where), set()).add(last)
    if kind == "expert" and mode in OFF_MODES:
        return tuple(SkippedExperts(layer, tuple(sorted(x)), mode) for (layer,), x in off.items())
    if kind not in _KEPT or mode != "zero":
        raise SparseError(
            f"the sparse runtime leaves units out, of the kinds expert, {', '.join(_KEPT)}; it "
            f"cannot put {kind}s into the mode '{mode}'"
        )
    count = KINDS[kind].shape(anatomy)[-1]
    return tuple(
        _KEPT[kind](where, tuple(number for number in range(count) if number not in out))
        for where, out in off.items()
    )


_KEPT = {
    "neuron": lambda where, kept: KeptNeurons(where[0], "dense", kept),
    "shared_neuron": lambda where, kept: KeptNeurons(where[0], "shared", kept),
    "expert_neuron": lambda where, kept: KeptNeurons(where[0], "expert", kept, expert=where[1]),
    "head": lambda where, kept: KeptHeads(where[0], kept),
}


def _backend(subject: Subject) -> str:
    return "cpu" if subject.device.type == "cpu" else "triton"
