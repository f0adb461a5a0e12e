"""Whether the model reads the directions of a finding: one line, and a warning where it does not.

The numbers are those of ``row_space`` of a finding, see ``docs/localise.md``.
"""

from __future__ import annotations

from collections.abc import Mapping

from lmri.report import words
from lmri.report.kinds import MapName

WARNING = "To be read with care, directions that nothing reads"


def is_illusory(finding: Mapping | None) -> bool:
    """Whether most of the effect of a finding goes through what the model does not read."""
    return _checked(finding).get("illusory") is True


def row_space_line(finding: Mapping | None) -> tuple[str, str] | None:
    """Say how much of the effect of a finding is by what later weights read.

    Parameters
    ----------
    finding : mapping or None
        A finding; those about features and dimensions have ``row_space``.

    Returns
    -------
    tuple of str or None
        Lead and text; None for a finding without.
    """
    found = _checked(finding)
    if not found:
        return None
    noun = MapName(f"{finding['kind']}.{finding['method']}").noun
    effect, row, null = (
        words.number(found.get(name)) for name in ("effect", "row_effect", "null_effect")
    )
    if found.get("kept") is None:
        told = f"the effect on the first token is {effect} logits, too small to be taken apart."
    else:
        told = (
            f"of {effect} logits on the first token, {row} are by the part of the {noun.many} that "
            f"later weights read and {null} by the part that they do not: "
            f"{words.number(found['kept'])} is kept. {_meaning(found)}"
        )
    rank, width = words.whole(found.get("rank")), words.whole(found.get("width"))
    read = (
        f"The weights read all {width} directions of the state, so that nothing could be found."
        if rank == width
        else f"The weights read {rank} of {width} directions of the state."
    )
    lead = WARNING if is_illusory(finding) else f"Directions of the {noun.many}"
    return f"{lead}:", f"{told} {read}"


def _meaning(found: Mapping) -> str:
    if found.get("illusory") is True:
        return (
            "Below .5, an effect may be an illusion: a path that is dormant otherwise, and no "
            "mechanism (published: .29 of an illusion, .91 of a faithful direction). This does not "
            "decide the verdict."
        )
    return "From .5 on, nothing speaks for an illusion through a path that is dormant otherwise."


def _checked(finding: Mapping | None) -> Mapping:
    found = (finding or {}).get("row_space")
    return found if isinstance(found, Mapping) else {}
