"""What would change a verdict, from the parts of its rule."""

from __future__ import annotations

from collections.abc import Mapping

from lmri.report import words

CONTROL = "positive control"


def other_way(verdict: Mapping[str, object]) -> str:
    """Say what the same trials would have had to show for another verdict.

    Parameters
    ----------
    verdict : mapping
        Row of ``verdicts.parquet``.

    Returns
    -------
    str
        Half a sentence.
    """
    checks = {str(c["check"]): bool(c["passed"]) for c in words.read_checks(verdict["checks"])}
    failed = [check for check, passed in checks.items() if not passed and check != CONTROL]
    ways = {
        "confirmed": f"any of these not holding: {', '.join(c for c in checks if c != CONTROL)}",
        "refuted": "an effect whose interval reaches beyond the margin, or a positive control that "
        "does not move the behaviour",
        "inconclusive": f"{' and '.join(failed)} holding would confirm it; an effect within the "
        "margin, with a positive control that moves the behaviour, would refute it",
    }
    return ways.get(str(verdict["verdict"]), "a finding that can be tested")
