"""The table of control draws: the same done to other units, of every kind of control."""

from __future__ import annotations

import numpy as np

from lmri.report import words
from lmri.report.evidence import Evidence
from lmri.report.kinds import Noun
from lmri.report.view import Cell, Column, Table


def control_names(noun: Noun) -> dict[str, str]:
    """Name every kind of control draws.

    Parameters
    ----------
    noun : Noun
        Words for the units that are switched off.

    Returns
    -------
    dict of str to str
        Name by arm, the one that decides first.
    """
    return {
        "sham": "sham maps",
        "layer_matched": f"other {noun.many} of the same layers",
        "load_matched": f"other {noun.many} used as often",
        "massive_matched": f"other {noun.many} that get as massive",
    }


def control_table(evidence: Evidence, source: str, data: str) -> Table | None:
    """Show what switching off other units did at the primary endpoint.

    Parameters
    ----------
    evidence : Evidence
        Arms of the finding.
    source, data : str
        Where the numbers come from; where they are repeated.

    Returns
    -------
    Table or None
        One row per kind of control that was run; None without any.
    """
    target = evidence.target()
    finding, *_ = evidence.effect(evidence.at_endpoint(target, "finding"))
    rows = []
    for arm, name in control_names(evidence.noun).items():
        own = evidence.at_endpoint(target, arm)
        effects = evidence.effects(own).to_numpy(float)
        known = np.isfinite(effects)
        if known.any():
            off = evidence.noun.span(evidence.sizes(own)[known])
            rows.append(
                _row(name, f"decides; {off}" if arm == "sham" else off, effects[known], finding)
            )
    if not rows:
        return None
    many = evidence.noun.many
    return Table(
        caption=(
            f"The same done to other {many} at the primary endpoint, where the finding's "
            f"{evidence.noun.count(evidence.endpoint['dose'])} "
            f"{'has' if evidence.endpoint['dose'] == 1 else 'have'} an effect of "
            f"{words.number(finding)} ({evidence.effect_label}). Only the sham maps decide: a map "
            "is switched off at the dose that was chosen for it, as for the finding."
        ),
        columns=[
            Column(f"{many.capitalize()} off"),
            Column("Draws", kind="number"),
            Column("Effect", "mean, smallest to largest", "number"),
            Column("As much", "as the finding", "number"),
        ],
        rows=rows,
        source=source,
        data=data,
    )


def _row(name: str, note: str, effects: np.ndarray, finding: float) -> list[Cell]:
    as_much = int((effects >= finding).sum()) if np.isfinite(finding) else words.NOTHING
    return [
        Cell(words.sentence(name), note=note),
        Cell(str(len(effects)), "number"),
        Cell(
            words.number(effects.mean()),
            "number",
            words.interval(effects.min(), effects.max()),
        ),
        Cell(f"{as_much} of {len(effects)}", "number"),
    ]
