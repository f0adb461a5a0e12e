"""Numbers and names in words: one way to write each, everywhere in the report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"

LARGE = 1e9
"""Numbers from here on are written with an exponent."""

CUT = 1e6
"""Where statistics are cut that are infinite: a difference without variation within conditions."""

MOST_NAMES = 8
"""Units that are named in a row; of more, the first."""

SCORES = {
    "refusal_onset": ("refusal onset", "share of responses whose first token begins a refusal"),
    "onset_margin": (
        "onset margin",
        "logit of the refusal's first token minus the largest other logit",
    ),
    "refusal_exact": ("exact refusal", "share of responses that are the whole refusal"),
    "fact_told": ("true fact told", "share of responses that tell the true answer"),
    "exact": ("expected answer", "share of responses equal to the expected answer"),
    "coherent": ("coherent", "share of responses that pass the coherence gate"),
}
"""Name and meaning of each score."""

MODES = {
    "mask": ("masked", "removed before the router picks its experts, so another enters"),
    "zero": ("zeroed", "picked as before, their output set to zero"),
    "zero_renormalise": ("zeroed, renormalised", "output zero, the others' weights scaled up"),
    "force": ("forced on", "always picked, with the largest weight"),
    "mean": ("set to the mean", "set to their mean activity on other trials"),
    "clamp": ("clamped", "set to given activity"),
    "resample": ("resampled", "set to their activity in another trial, drawn for each"),
    "flip": ("flipped", "set to their negative"),
    "uniform": ("attending alike", "looking at all tokens before alike"),
    "gain": ("scaled", "multiplied by a factor"),
    "sink": ("attending otherwise to the first token", "its attention multiplied, the sum kept"),
    "pattern": ("looking as told", "their attention patterns replaced"),
    "void": ("skipped where void", "passed over at tokens where they add little"),
    "add": ("steered", "a vector added to the residual"),
    "ablate": ("ablated", "along directions, set to where it is on other trials"),
    "adjust": ("adjusted", "moved to where they are on other trials where they look like these"),
}
"""Name and meaning of each mode of intervention."""

PHASES = {
    "prompt_last": "last token of the prompt",
    "content": "content of the question",
    "content_last": "last token of the content",
    "response": "response",
    "system": "system prompt",
    "think": "reasoning",
    "attribution": "causal map",
}


CONTROLS = {
    code: chr(code).encode("unicode_escape").decode()
    for code in (
        *(code for code in range(0x20) if chr(code) not in "\t\n\r"),
        *range(0x7F, 0xA0),
        *(0x061C, 0x200E, 0x200F),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
}
"""Escapes of characters that nobody sees: controls; marks, embeddings, overrides and isolates of
direction, which act on all that follows."""

PLACES = {"before": "before the block", "mid": "after attention", "after": "after the block"}
"""Places of the residual stream in a layer."""


def number(value: float, digits: int = 2) -> str:
    """Write a number with a fixed number of digits, or a dash when there is none.

    One of at least :data:`LARGE` has an exponent, since only its size can be read.
    """
    if not _finite(value):
        return NOTHING
    text = f"{float(value):.{digits}{'e' if abs(value) >= LARGE else 'f'}}".replace("e+", "e")
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def signed(value: float, digits: int = 2) -> str:
    """Write a number with its sign, plus included."""
    text = number(value, digits)
    return text if text.startswith((MINUS, NOTHING)) or float(text) == 0 else f"+{text}"


def statistic(value: float) -> str:
    """Write a statistic with its sign; of one that is cut, that it is."""
    if not _finite(value) or abs(value) != CUT:
        return signed(value)
    return f"{'+' if value > 0 else MINUS}1e6 (cut: no variation)"


def interval(low: float, high: float, digits: int = 2) -> str:
    """Write an interval as ``low to high``; empty when it is not known.

    An interval narrower than five units of the last digit gets one digit more, so that it does not
    look like a point.
    """
    if not (_finite(low) and _finite(high)):
        return ""
    if 0 < high - low < 5 * 10**-digits:
        digits += 1
    return f"{number(low, digits)} to {number(high, digits)}"


def probability(value: float) -> str:
    """Write a p-value: three digits, four below .001; never zero."""
    if not _finite(value):
        return NOTHING
    if value < 0.0001:
        return "< 0.0001"
    return f"{value:.4f}" if value < 0.001 else f"{value:.3f}"


def whole(value: float) -> str:
    """Write a count, or a dash when there is none."""
    return str(int(value)) if _finite(value) else NOTHING


def plural(count: int, noun: str) -> str:
    """Write a count with its noun."""
    return f"{count} {noun if count == 1 else plural_of(noun)}"


def plural_of(noun: str) -> str:
    """Put a noun into the plural: places, entities, days."""
    if noun.endswith("y") and noun[-2:-1] not in {*"aeiou"}:
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def short(name: object, most: int = 18) -> str:
    """Cut a name that would not fit beside a drawing."""
    text = str(name)
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def spread(counts: Sequence[int]) -> str:
    """Write the range of some counts: ``32``, or ``29 to 32`` where they differ."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def listing(items: Iterable[str], last: str = "and") -> str:
    """Join words: ``a, b and c``."""
    items = list(items)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def without_value(count: int) -> str:
    """Say how units without a value are counted; nothing where there are none."""
    if not count:
        return ""
    return (
        " Units without a value (no variation, or too few rows to tell) have p = 1 and count among "
        "the units of q (Benjamini and Hochberg), which makes q larger and never smaller."
    )


def unit_name(unit: Sequence[int]) -> str:
    """Name a unit as ``layer:expert``, ``layer:expert:neuron`` and so on, counted from 0."""
    return ":".join(str(int(part)) for part in unit)


def unit_names(units: Iterable[Sequence[int]], most: int = MOST_NAMES) -> str:
    """Name several units, at most so many; how many more there are is said."""
    names = [unit_name(unit) for unit in units]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def read_units(text: object) -> list[list[int]]:
    """Read the JSON list of units in a table; anything else is no unit.

    Parameters
    ----------
    text : object
        Content of a column ``units``.

    Returns
    -------
    list of [layer, ...]
        The units.
    """
    try:
        units = json.loads(text) if isinstance(text, str) else []
        return [[int(part) for part in _parts(unit)] for unit in units]
    except (ValueError, TypeError):
        return []


def was_mapped(status: str, units: Sequence[object]) -> bool:
    """Whether a finding belongs to a map, by its status and units.

    What a map does not select is ``null``; a subject without units of the kind has no map.
    """
    return status != "not_testable" or len(units) > 0


def read_checks(text: object) -> list[dict]:
    """Read the JSON list of checks in a table; anything else is no check.

    Parameters
    ----------
    text : object
        Content of a column ``checks``.

    Returns
    -------
    list of dict
        With ``check``, ``passed`` and ``detail``.
    """
    try:
        checks = json.loads(text) if isinstance(text, str) else []
    except ValueError:
        return []
    keys = {"check", "passed", "detail"}
    return [entry for entry in checks if isinstance(entry, dict) and keys <= set(entry)]


def written_out(text: str) -> str:
    """Write characters that turn what follows around, or do worse, as escapes that are seen.

    Parameters
    ----------
    text : str
        Of a prompt, a response, a name.

    Returns
    -------
    str
        The same text; letters of any script stay as they are.
    """
    return text.translate(CONTROLS)


def condition_name(task: str, condition: str | None) -> str:
    """Name a condition of a task: ``events · benign``; only the task when it is all of them."""
    return (
        readable(task)
        if condition in (None, "all")
        else f"{readable(task)} \N{MIDDLE DOT} {readable(condition)}"
    )


def readable(name: str) -> str:
    """Write an identifier with spaces."""
    return str(name).replace("_", " ")


def sentence(text: str) -> str:
    """Begin with a capital and leave the rest: ``RelP`` and ``MLP`` keep theirs."""
    return f"{text[:1].upper()}{text[1:]}"


def score_name(score: str) -> str:
    """Short name of a score."""
    return SCORES.get(score, (readable(score), ""))[0]


def score_meaning(score: str) -> str:
    """Meaning of a score in half a sentence."""
    return SCORES.get(score, ("", readable(score)))[1]


def verdict_name(row: Mapping[str, object]) -> str:
    """Name a verdict for people: the one of a negative control says whether it stayed empty.

    Parameters
    ----------
    row : mapping
        Row of ``verdicts.parquet``.

    Returns
    -------
    str
        ``empty, as expected`` or ``false alarm`` for a negative control with a map, else the
        verdict.
    """
    if row["role"] != "negative_control":
        return str(row["verdict"])
    if read_units(row["units"]):
        return "false alarm"
    return "empty, as expected" if row["status"] == "null" else str(row["verdict"])


def place_name(place: str) -> str:
    """Name of a place of the residual stream in words."""
    return PLACES.get(place, readable(place))


def mode_name(mode: str) -> str:
    """Short name of a mode of intervention."""
    return MODES.get(mode, (readable(mode), ""))[0]


def phase_name(phase: str) -> str:
    """Name of a phase in words."""
    return PHASES.get(phase, readable(phase))


def _parts(unit: object) -> list:
    if not isinstance(unit, list) or not unit:
        raise TypeError
    return unit


def _finite(value: object) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False
