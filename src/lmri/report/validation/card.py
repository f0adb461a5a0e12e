"""The evidence card of one verdict: everything that it rests on, in reading order."""

from __future__ import annotations

import pandas as pd

from lmri.config import StudyConfig
from lmri.report import evidence_tables, words
from lmri.report.control_tables import control_names, control_table
from lmri.report.evidence import Evidence
from lmri.report.figures.controls import draw_controls
from lmri.report.files import Files
from lmri.report.inputs import Scan, SubjectInputs
from lmri.report.validation.tables import RIVALS, claim_table, rival_table, rule_lines
from lmri.report.validation.ways import other_way
from lmri.report.view import Figure, Heading, Panel, Pointer, Prose, Table

Block = Figure | Heading | Pointer | Prose | Table


def card_blocks(
    subject: SubjectInputs, scan: Scan, verdict: dict, config: StudyConfig, key: str, files: Files
) -> list[Block]:
    """Make the evidence card of a verdict.

    Parameters
    ----------
    subject : SubjectInputs
        The subject.
    scan : Scan
        The contrast in its primary phase.
    verdict : dict
        Row of ``verdicts.parquet``.
    config : StudyConfig
        The study.
    key : str
        Distinguishes the drawings of the card from all others of the page.
    files : Files
        Takes the numbers.

    Returns
    -------
    list of Figure, Heading, Prose or Table
        Verdict, rule, effect against all control draws, claims, rivals, transcripts, and what
        would change the verdict.
    """
    title = f"{subject.name}: {words.readable(scan.contrast.name)}"
    heading = Heading(words.sentence(title), f"{words.verdict_name(verdict)}: {verdict['reason']}")
    claims = claims_of(subject, scan)
    parts: list[Block | None] = [heading]
    evidence = _evidence(subject, scan)
    if evidence is not None:
        source, data = subject.path("arms"), files.add(f"arms.{key}", evidence.arms)
        parts += [
            Prose(list(rule_lines(scan.finding, verdict))),
            _controls_figure(evidence, key, source, data),
            control_table(evidence, source, data),
            rival_table(evidence, source, data),
        ]
    if len(claims):
        data = files.add(f"claims.{key}", claims)
        parts.append(claim_table(claims, subject.path("claims"), data))
    parts += _transcripts(subject, scan, config, key, files)
    parts.append(Prose([("What would change this verdict:", f"{other_way(verdict)}.")]))
    return [part for part in parts if part is not None]


def claims_of(subject: SubjectInputs, scan: Scan) -> pd.DataFrame:
    """Claims of the finding of the primary map of a scan."""
    table = subject.claims
    if table.empty:
        return table
    chosen = (table["contrast"] == scan.contrast.name) & (table["phase"] == scan.phase)
    return table[chosen]


def _evidence(subject: SubjectInputs, scan: Scan) -> Evidence | None:
    if scan.finding is None or "primary_endpoint" not in scan.finding or subject.arms.empty:
        return None
    arms = subject.arms_of(scan, scan.name)
    endpoint, secondary = scan.finding["primary_endpoint"], scan.finding.get("secondary", {})
    return None if arms.empty else Evidence(arms, endpoint, secondary, scan.noun)


def _controls_figure(evidence: Evidence, key: str, source: str, data: str) -> Figure:
    """Show the effect as a mark beside every control draw of every kind."""
    target = evidence.target()
    named = control_names(evidence.noun) | dict.fromkeys(RIVALS, "rival selections")
    draws: dict[str, list[float]] = {}
    for arm, name in named.items():
        effects = evidence.effects(evidence.at_endpoint(target, arm)).to_numpy(float)
        if len(effects):
            draws.setdefault(name, []).extend(effects)
    finding = evidence.effect(evidence.at_endpoint(target, "finding"))
    told = words.listing(f"{words.number(max(own))} of {name}" for name, own in draws.items())
    # Beside the drawing there is room for what tells them apart.
    same = f"other {evidence.noun.many} "
    draws = {name.removeprefix(same): own for name, own in draws.items()}
    drawing = draw_controls(draws, finding, evidence.endpoint["margin"], evidence.effect_label, key)
    return Figure(
        title="Against all control draws",
        panels=[Panel(drawing)],
        alt=(
            f"The effect of the finding is {words.number(finding[0])}; the largest of its controls "
            f"are {told or 'not known'}."
        ),
        look_for=(
            f"Every dot is the same done to other {evidence.noun.many}, the diamond the finding "
            "with its interval. Only sham maps, in which the whole selection is made where nothing "
            "is, decide."
        ),
        falsify="A diamond among the sham maps, or inside the shaded margin.",
        source=source,
        data=data,
        layout="strip",
    )


def _transcripts(
    subject: SubjectInputs, scan: Scan, config: StudyConfig, key: str, files: Files
) -> list[Block]:
    rows = subject.transcripts_of(scan)
    if rows.empty:
        return []
    data = files.add(f"transcripts.{key}", rows)
    count, source = config.report.transcripts, subject.path("transcripts")
    return [evidence_tables.transcript_table(rows, count, source, data, scan.noun)]
