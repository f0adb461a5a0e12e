"""Checks that share one grammar of error: what, whose, allowed, got.

Examples
--------
>>> check_choice("fast", {"mask", "zero"}, "mode", "the intervention")
Traceback (most recent call last):
    ...
lmri.errors.LmriError: The 'mode' of the intervention must be one of 'mask', 'zero'. Got 'fast'.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from lmri.errors import LmriError

SLUG = re.compile(r"[a-z0-9][a-z0-9_]*")
"""Names that become folders and wildcards: lower case letters, digits and underscores."""


def check_choice(
    value: object,
    allowed: Collection[str],
    name: str,
    owner: str,
    error: type[LmriError] = LmriError,
) -> None:
    """Raise unless ``value`` is one of ``allowed``.

    Parameters
    ----------
    value : object
        What was got.
    allowed : collection of str
        What may be given.
    name : str
        The parameter or field.
    owner : str
        Whose parameter it is: a class, a file, a section of the configuration.
    error : type of LmriError
        The error to raise.

    Raises
    ------
    LmriError
        If ``value`` is not allowed; names the closest allowed values first.
    """
    if value not in allowed:
        raise error(f"The '{name}' of {owner} must be one of {quoted(allowed)}. Got {value!r}.")


def check_range(
    value: float,
    name: str,
    owner: str,
    low: float | None = None,
    high: float | None = None,
    error: type[LmriError] = LmriError,
) -> None:
    """Raise unless ``low <= value <= high``; either bound may be open (None).

    Parameters
    ----------
    value : float
        What was got.
    name, owner : str
        The field and whose it is.
    low, high : float, optional
        Inclusive bounds.
    error : type of LmriError
        The error to raise.

    Raises
    ------
    LmriError
        If ``value`` is outside the bounds.
    """
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"[{'-inf' if low is None else low}, {'inf' if high is None else high}]"
        raise error(f"The '{name}' of {owner} must be in {bounds}. Got {value!r}.")


def check_slug(value: str, name: str, owner: str, error: type[LmriError] = LmriError) -> None:
    """Raise unless ``value`` may become a folder name: letters, digits and underscores.

    Parameters
    ----------
    value : str
        What was got.
    name, owner : str
        The field and whose it is.
    error : type of LmriError
        The error to raise.

    Raises
    ------
    LmriError
        If ``value`` has any other character, is empty, or is longer than 64.
    """
    if not isinstance(value, str) or len(value) > 64 or not SLUG.fullmatch(value):
        told = repr(value) if len(repr(value)) <= 80 else shortened(value)
        raise error(
            f"The '{name}' of {owner} must be lower case letters, digits and underscores "
            f"(at most 64, starting with a letter or digit). Got {told}."
        )


def check_columns(
    present: Iterable[str],
    needed: Iterable[str],
    owner: str,
    error: type[LmriError] = LmriError,
) -> None:
    """Raise unless every needed column is present.

    Parameters
    ----------
    present, needed : iterable of str
        Columns of the table, and those it must have.
    owner : str
        The table, usually its path.
    error : type of LmriError
        The error to raise.

    Raises
    ------
    LmriError
        Naming every missing column and those that are there.
    """
    present = list(present)
    missing = [column for column in needed if column not in present]
    if missing:
        raise error(
            f"The table {owner} lacks the column(s) {quoted(missing)}. It has {quoted(present)}."
        )


def quoted(values: Iterable[object]) -> str:
    """Values for an error message: quoted, sorted, joined by commas.

    Parameters
    ----------
    values : iterable of object
        What to list.

    Returns
    -------
    str
        For example ``'a', 'b'``, or ``nothing`` when there are none.
    """
    return ", ".join(f"'{value}'" for value in sorted(map(str, values))) or "nothing"


def shortened(value: object) -> str:
    """Write a value for a message: on one line, 60 characters at most.

    Parameters
    ----------
    value : object
        The value.

    Returns
    -------
    str
        Its beginning, as Python writes it.
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
