"""The policy that a finding is: its units kept only, or switched off, and nothing of others run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from lmri.anatomy import Anatomy
from lmri.checks import check_choice
from lmri.errors import SparseError
from lmri.intervene import KINDS, OFF_MODES, Plan, Unit, check_plan
from lmri.sparse.calibration import Activity
from lmri.sparse.policies.draft import Draft, Runs
from lmri.sparse.policies.experts import skipped
from lmri.sparse.rules import KeptHeads, KeptNeurons, Rule

KEEP = ("only", "off")
OWNER = "the policy 'keep_units'"


@dataclass(frozen=True)
class KeepUnitsOptions:
    """Options of :func:`keep_units`.

    Attributes
    ----------
    finding : mapping
        A finding, see ``docs/artefacts.md``: its primary endpoint's units, or all it has.
    keep : str
        ``only``: of its kind nothing else exists, in any layer; ``off``: its units do not.
    dose : int or None
        Take only so many units, strongest first.
    """

    finding: Mapping = field(repr=False)
    keep: str = "only"
    dose: int | None = None

    def __post_init__(self) -> None:
        check_choice(self.keep, KEEP, "keep", OWNER, SparseError)
        if self.dose is not None and self.dose < 1:
            raise SparseError(f"The 'dose' of {OWNER} must be at least 1. Got {self.dose}.")


def keep_units(activity: Activity, options: KeepUnitsOptions, runs: Runs) -> Draft:
    """Run a subject with only a finding's units, or without them.

    Parameters
    ----------
    activity : Activity
        Of the calibration; the rules need none of it.
    options : KeepUnitsOptions
        What is asked for.
    runs : Runs
        Not used.

    Returns
    -------
    Draft
        Rules for experts, neurons, neurons of experts or heads. Experts are off in the finding's
        mode; those beside the kept ones leave their slots empty, since a token must have as many to
        choose from as it takes.

    Raises
    ------
    SparseError
        If the finding has no units, is of a kind that no rule can be for, or was made for a subject
        with other units.
    """
    finding, anatomy = options.finding, activity.subject.anatomy
    kind = finding.get("kind")
    check_choice(kind, _RULES, "kind", f"the finding of {OWNER}", SparseError)
    units = _units(finding)[: options.dose]
    if not units:
        raise SparseError(
            f"The finding of {OWNER} must have units. Got none (status "
            f"{finding.get('status')!r}): there is nothing to keep or to switch off."
        )
    check_plan(Plan("zero", tuple(units), kind), anatomy)
    every = set(_all_units(kind, anatomy))
    kept = set(units) if options.keep == "only" else every - set(units)
    draft = Draft(found={"units": len(units), "of_units": len(every)})
    if kind == "expert":
        own = finding.get("primary_endpoint", {}).get("mode", "mask")
        mode = own if options.keep == "off" and own in OFF_MODES else "zero"
        draft.rules = skipped(activity, tuple(sorted(every - kept)), mode).rules
    else:
        touched = every if options.keep == "only" else set(units)
        draft.rules = list(_RULES[kind](kept, touched))
    draft.asked = [None] * len(draft.rules)
    return draft


def _neurons(kept: set[Unit], touched: set[Unit]) -> Iterable[Rule]:
    for layer in sorted({unit[0] for unit in touched}):
        own = tuple(sorted(neuron for where, neuron in kept if where == layer))
        yield KeptNeurons(layer, "dense", own)


def _expert_neurons(kept: set[Unit], touched: set[Unit]) -> Iterable[Rule]:
    by_expert: dict[Unit, list[int]] = {unit[:2]: [] for unit in touched}
    for layer, expert, neuron in sorted(kept):
        if (layer, expert) in by_expert:
            by_expert[layer, expert].append(neuron)
    for (layer, expert), own in sorted(by_expert.items()):
        yield KeptNeurons(layer, "expert", tuple(own), expert=expert)


def _heads(kept: set[Unit], touched: set[Unit]) -> Iterable[Rule]:
    for layer in sorted({unit[0] for unit in touched}):
        yield KeptHeads(layer, tuple(sorted(head for where, head in kept if where == layer)))


_RULES: dict[str, Callable[[set[Unit], set[Unit]], Iterable[Rule]] | None] = {
    "expert": None,  # through the modes of an intervention
    "neuron": _neurons,
    "expert_neuron": _expert_neurons,
    "head": _heads,
}


def _units(finding: Mapping) -> list[Unit]:
    endpoint = finding.get("primary_endpoint") or {}
    if endpoint.get("units"):
        return [tuple(map(int, unit)) for unit in endpoint["units"]]
    names = KINDS[finding["kind"]].names
    return [tuple(int(unit[name]) for name in names) for unit in finding.get("units", ())]


def _all_units(kind: str, anatomy: Anatomy) -> Iterable[Unit]:
    units = [(layer,) for layer in KINDS[kind].layers(anatomy)]
    for size in KINDS[kind].shape(anatomy):
        units = [(*unit, i) for unit in units for i in range(size)]
    return units
