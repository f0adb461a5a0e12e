"""The figures of a finding put to the test, with captions that say what would falsify it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lmri.report import words
from lmri.report.control_tables import control_names
from lmri.report.evidence import Evidence
from lmri.report.figures.dose import draw_dose
from lmri.report.figures.shams import draw_shams
from lmri.report.view import Figure, Panel

SMALL = (220, 162)


def dose_legend(evidence: Evidence) -> list[tuple[str, str]]:
    """Marks of the draws of a dose-response curve and what they mean.

    Parameters
    ----------
    evidence : Evidence
        Arms of the finding; controls as massive as the units are not drawn of all kinds.

    Returns
    -------
    list of tuple of str
        Mark and meaning.
    """
    present = {"sham", "layer_matched", "load_matched", *evidence.arms["arm"]}
    return [
        ("finding", f"the finding's {evidence.noun.many}, with interval"),
        *(
            (arm.replace("_", "-"), name)
            for arm, name in control_names(evidence.noun).items()
            if arm in present
        ),
    ]


def dose_figure(evidence: Evidence, anchor: str, source: str, data: str) -> Figure:
    """Show target and bystanders against the dose, in the primary mode, with all controls.

    Parameters
    ----------
    evidence : Evidence
        Arms of the finding.
    anchor : str
        Begin of the drawings' keys.
    source, data : str
        Where the numbers come from; where they are repeated.

    Returns
    -------
    Figure
        The target first, then one small drawing per bystander.
    """
    endpoint = evidence.endpoint
    score = words.score_name(endpoint["score"])
    target, many = evidence.in_mode(evidence.target()), evidence.noun.many
    moved = evidence.shams_by_own_dose
    panels = [
        Panel(
            draw_dose(
                moved(target),
                evidence.doses,
                endpoint["dose"],
                f"{anchor}-dose",
                endpoint["margin"],
                many=many,
            ),
            title=f"Target: {score}",
        )
    ]
    groups = [evidence.in_mode(evidence.bystander(entry)) for entry in evidence.bystanders]
    lowest = _lowest(groups)
    cut = "; the axes do not begin at zero" if lowest > 0 else ""
    for index, (bystander, rows) in enumerate(zip(evidence.bystanders, groups, strict=True)):
        drawing = draw_dose(
            moved(rows),
            evidence.doses,
            endpoint["dose"],
            f"{anchor}-by{index}",
            endpoint["margin"],
            size=SMALL,
            lowest=lowest,
            many=many,
        )
        panels.append(Panel(drawing, title=bystander.name))
    return Figure(
        title="Dose and response",
        panels=panels,
        alt=_dose_alt(evidence, target, score),
        look_for=(
            f"Left, the {score} of the target trials as more {many} are "
            f"{_mode(endpoint['mode'])}; right, every other behaviour (share of expected "
            f"answers{cut}). A localised behaviour falls at the target while the others stay in "
            f"the shaded margin, and the dots, the same done to control {many}, stay up. A dot is "
            "drawn by its change from the intact score of the trials it was run on, of which "
            f"bystanders may have fewer{_own_doses(evidence)}."
        ),
        falsify=(
            f"Dots that fall with the line (any such {many} would do), other behaviours leaving "
            "the margin (the model is damaged, not the behaviour), or a line that stays level."
        ),
        source=source,
        data=data,
        layout="dose",
        legend=[
            *dose_legend(evidence),
            ("margin", "within the margin of the intact score"),
            ("dose", "primary dose"),
        ],
    )


def _own_doses(evidence: Evidence) -> str:
    """Say where sham maps stand that were not run at the dose of the finding."""
    sizes = evidence.sizes(evidence.at_endpoint(evidence.target(), "sham"))
    if not len(sizes) or (sizes == evidence.endpoint["dose"]).all():
        return ""
    return (
        "; the sham maps that decide stand at the dose that was chosen for each, as the finding's "
        f"was ({evidence.noun.span(sizes)})"
    )


def sham_figure(evidence: Evidence, anchor: str, source: str, data: str) -> Figure:
    """Show the effect at the primary endpoint beside those of all sham maps.

    Parameters
    ----------
    evidence : Evidence
        Arms of the finding.
    anchor : str
        Begin of the drawing's key.
    source, data : str
        Where the numbers come from; where they are repeated.

    Returns
    -------
    Figure
        One drawing with its caption beside it.
    """
    rows = evidence.target()
    own = evidence.at_endpoint(rows, "sham")
    shams = evidence.effects(own).to_numpy(float)
    sizes = f" ({evidence.noun.span(evidence.sizes(own))})" if len(own) else ""
    finding = evidence.effect(evidence.at_endpoint(rows, "finding"))
    positive = evidence.effect(evidence.at_endpoint(rows, "positive_control"))
    largest = words.number(shams.max()) if len(shams) else words.NOTHING
    return Figure(
        title="Against the sham maps",
        panels=[
            Panel(
                draw_shams(
                    shams,
                    finding,
                    positive,
                    evidence.endpoint["margin"],
                    evidence.effect_label,
                    f"{anchor}-shams",
                )
            )
        ],
        alt=(
            f"{evidence.effect_label.capitalize()}: finding {words.number(finding[0])}, positive "
            f"control {words.number(positive[0])}, {len(shams)} sham maps with the largest at "
            f"{largest}."
        ),
        look_for=(
            "A sham map is the whole selection run again where nothing is to be found, with the "
            f"dose that is chosen then{sizes}. The filled "
            "diamond right of every dot is an effect that only the true contrast finds."
        ),
        falsify=(
            "A diamond among the dots or inside the shaded margin, while the positive control "
            "(ablating the mean-difference direction) lies outside."
        ),
        source=source,
        data=data,
        layout="strip",
    )


def mode_figure(evidence: Evidence, anchor: str, source: str, data: str) -> Figure | None:
    """Show the primary score in the other modes of intervention, small.

    Parameters
    ----------
    evidence : Evidence
        Arms of the finding.
    anchor : str
        Begin of the drawings' keys.
    source, data : str
        Where the numbers come from; where they are repeated.

    Returns
    -------
    Figure or None
        None when no other mode was run.
    """
    panels, changes, noun = [], [], evidence.noun
    for title, rows in _other_modes(evidence):
        finding = rows[rows["arm"] == "finding"].sort_values("dose", kind="stable")
        if finding.empty:
            continue
        last = finding.iloc[-1]
        changes.append(
            f"{title}: {words.number(last['intact'])} to {words.number(last['value'])} with "
            f"{noun.count(int(last['dose']))}"
        )
        key = f"{anchor}-mode{len(panels)}"
        drawing = draw_dose(rows, evidence.doses, None, key, size=SMALL, many=noun.many)
        panels.append(Panel(drawing, title=title))
    if not panels:
        return None
    score = words.score_name(evidence.endpoint["score"])
    return Figure(
        title=(
            "Other ways to switch off, and forcing on (exploratory)"
            if "force" in evidence.secondary.get("modes", [])
            else "Other ways to switch off (exploratory)"
        ),
        panels=panels,
        alt=f"{score.capitalize()} in the other modes. {'; '.join(changes)}.",
        look_for=(
            f"The {score} again. If the finding does not hang on how {noun.many} are "
            "switched off, the modes agree."
            + (
                " Forced on, experts that suffice for the behaviour would raise it where it is "
                "not asked for."
                if "force" in evidence.secondary.get("modes", [])
                else ""
            )
        ),
        falsify="Nothing here: only the primary mode decides.",
        source=source,
        data=data,
        layout="small",
        legend=dose_legend(evidence),
    )


def _mode(mode: str) -> str:
    return {
        "mask": "masked before the router's choice",
        "zero": "set to zero",
        "zero_renormalise": "set to zero and the rest renormalised",
        "force": "forced on",
    }.get(mode, f"put into the mode {words.readable(mode)}")


def _lowest(groups: Sequence[pd.DataFrame]) -> float:
    """Begin of the axis shared by all bystanders: near their scores, where the margin is seen."""
    values = np.concatenate([group["value"].to_numpy(float) for group in groups] or [[]])
    return min(0.5, np.floor(10 * np.nanmin(values)) / 10) if np.isfinite(values).any() else 0.0


def _dose_alt(evidence: Evidence, target: pd.DataFrame, score: str) -> str:
    finding = target[target["arm"] == "finding"].sort_values("dose", kind="stable")
    if finding.empty:
        many = evidence.noun.many
        return f"{score.capitalize()} against the number of {many} switched off: not run."
    steps = words.listing(
        f"{words.number(value)} with {int(dose)}"
        for dose, value in zip(finding["dose"], finding["value"], strict=True)
    )
    return (
        f"{score.capitalize()} of the target: {words.number(finding['intact'].iloc[0])} intact, "
        f"{steps} {evidence.noun.many} off. The other behaviours are in the table of bystanders."
    )


def _other_modes(evidence: Evidence) -> list[tuple[str, pd.DataFrame]]:
    target = evidence.target()
    modes = [
        *evidence.secondary.get("modes", []),
        *sorted(set(target["mode"]) - set(evidence.secondary.get("modes", []))),
    ]
    others = [mode for mode in modes if mode in words.MODES and mode != evidence.endpoint["mode"]]
    chosen = [
        (f"{words.mode_name(mode).capitalize()}: target", evidence.in_mode(target, mode))
        for mode in others
    ]
    if "force" in others:
        for bystander in evidence.bystanders:
            rows = evidence.bystander(bystander, evidence.endpoint["score"])
            name = f"Forced on: {bystander.name}"
            chosen.append((name, evidence.in_mode(rows, "force")))
    return chosen
