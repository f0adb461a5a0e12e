"""Plans as data, so that they can sit in a finding or a plan file and be run again from it."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

from lmri.checks import quoted, shortened
from lmri.errors import LmriError
from lmri.intervene.plans import OWNER, AnyPlan, Combined, Plan

FIELDS = ("kind", "mode", "phase", "units", "values")
TOGETHER = "together"


def plan_record(plan: AnyPlan) -> dict:
    """Write a plan as data of JSON.

    Parameters
    ----------
    plan : Plan or Combined
        The plan.

    Returns
    -------
    dict
        ``kind``, ``mode``, ``phase``, ``units`` (lists of whole numbers) and ``values`` (lists of
        numbers); or ``together``, a list of such, in the order in which the plans act.
    """
    if isinstance(plan, Combined):
        return {TOGETHER: [plan_record(part) for part in plan.parts]}
    return {
        "kind": plan.kind,
        "mode": plan.mode,
        "phase": plan.phase,
        "units": [[int(part) for part in unit] for unit in plan.units],
        "values": [list(value) for value in plan.values],
    }


def read_plan(record: object, owner: str = OWNER) -> AnyPlan:
    """Read a plan that :func:`plan_record` wrote.

    Whether a subject can carry it out is for :func:`lmri.intervene.check_plan` to say.

    Parameters
    ----------
    record : object
        Data of JSON. ``phase`` and ``values`` may be missing: ``both``, and none.
    owner : str
        Whose plan it is, for messages.

    Returns
    -------
    Plan or Combined
        The plan; equal to the one that was written.

    Raises
    ------
    LmriError
        If the record is none of a plan.
    """
    if not isinstance(record, Mapping):
        raise LmriError(f"The plan of {owner} must be a mapping. Got {shortened(record)}.")
    if TOGETHER in record:
        parts = record[TOGETHER]
        if set(record) != {TOGETHER} or not isinstance(parts, list):
            raise LmriError(
                f"The plan of {owner} must have '{TOGETHER}' alone, a list of plans. "
                f"Got {quoted(record)}."
            )
        read = [read_plan(part, owner) for part in parts]
        return Combined(tuple(part for own in read for part in own.parts))
    missing = {"kind", "mode", "units"} - set(record)
    if missing or set(record) - set(FIELDS):
        raise LmriError(
            f"The plan of {owner} must have 'kind', 'mode' and 'units', and may have 'phase' and "
            f"'values'. Got {quoted(record)}."
        )
    names = [record[name] for name in ("mode", "kind")] + [record.get("phase", "both")]
    if not all(isinstance(name, str) for name in names):
        raise LmriError(
            f"The 'kind', 'mode' and 'phase' of a plan of {owner} must be words. "
            f"Got {shortened(names)}."
        )
    units = _numbers(record["units"], "units", owner, int)
    values = _numbers(record.get("values", []), "values", owner, float)
    return Plan(names[0], units, names[1], values, names[2])


def _numbers(found: object, name: str, owner: str, type_: type) -> tuple[tuple, ...]:
    allowed = int if type_ is int else Real
    is_table = isinstance(found, list) and all(isinstance(row, list) for row in found)
    if not is_table or not all(
        isinstance(part, allowed) and not isinstance(part, bool) for row in found for part in row
    ):
        what = "whole numbers" if type_ is int else "numbers"
        raise LmriError(
            f"The '{name}' of a plan of {owner} must be a list of lists of {what}. "
            f"Got {shortened(found)}."
        )
    return tuple(tuple(type_(part) for part in row) for row in found)
