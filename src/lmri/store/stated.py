"""Claims read back from findings: whole, and as their kinds are now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lmri.checks import check_choice
from lmri.errors import StoreError
from lmri.store.claims import CLAIMS, Claim, Where

_FIXED = ("kind", "arms", "controls", "family")


def read_claim(values: Mapping[str, Any], owner: str) -> Claim:
    """Make a claim of what a finding holds.

    Parameters
    ----------
    values : mapping
        From :meth:`Claim.to_dict`, through JSON.
    owner : str
        Where it is from; begins the message.

    Returns
    -------
    Claim
        The claim.

    Raises
    ------
    StoreError
        If the kind is unknown, a field is missing or unknown, or its kind now fixes something else
        than it did when the claim was written.
    """
    check_choice(values.get("kind"), CLAIMS, "kind", f"a claim of {owner}", StoreError)
    kind = CLAIMS[values["kind"]]
    known = {item.name for item in fields(kind)}
    given = set(values) - set(_FIXED)
    for wrong in sorted(given - known) or sorted(known - given):
        raise StoreError(
            f"{owner}: the claim '{kind.kind}' must have the fields {', '.join(sorted(known))}. "
            f"Got {'another' if wrong in given else 'none'}: '{wrong}'. Localise again."
        )
    claim = kind(**{name: _frozen(name, values[name]) for name in known})
    fixed = claim.to_dict()
    for name in _FIXED:
        if values.get(name) != fixed[name]:
            raise StoreError(
                f"{owner}: the '{name}' of a claim '{kind.kind}' must be {fixed[name]!r}. "
                f"Got {values.get(name)!r}. Localise again."
            )
    return claim


def read_claims(finding: Mapping[str, Any], owner: str) -> list[Claim]:
    """Make all claims of a finding.

    Parameters
    ----------
    finding : mapping
        The finding.
    owner : str
        Where it is from.

    Returns
    -------
    list of Claim
        In the order of the finding; none of one that claims nothing.
    """
    return [read_claim(values, owner) for values in finding.get("claims", ())]


def _frozen(name: str, value: Any) -> Any:
    if name in {"trials", "source_trials"}:
        return Where(value["task"], tuple(value["conditions"]))
    if name == "bystanders":
        return tuple(Where(own["task"], tuple(own["conditions"])) for own in value)
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
