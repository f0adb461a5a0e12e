"""One section per subject and contrast: question, answer, and the evidence in reading order."""

from __future__ import annotations

import re

import pandas as pd

from lmri.config import ContrastOptions, StudyConfig
from lmri.report import evidence_figures as figures
from lmri.report import evidence_tables as tables
from lmri.report import map_figures, words
from lmri.report.answers import answer_contrast, ask_contrast, significant_units
from lmri.report.control_tables import control_table
from lmri.report.evidence import Evidence
from lmri.report.files import Files
from lmri.report.inputs import Scan, StudyInputs, SubjectInputs
from lmri.report.leaves import leaf_paths
from lmri.report.map_figures import Limits
from lmri.report.other_units import other_units
from lmri.report.row_space import row_space_line
from lmri.report.view import Figure, Heading, Prose, Section, SubjectView, Table

Block = Figure | Table | Heading | Prose


def subject_view(
    subject: SubjectInputs, config: StudyConfig, limits: Limits, files: Files
) -> SubjectView:
    """Make all sections of one subject.

    Parameters
    ----------
    subject : SubjectInputs
        Its artefacts.
    config : StudyConfig
        The study.
    limits : mapping of str to float
        Score of the strongest colour, by statistic.
    files : Files
        Takes the data behind the figures.

    Returns
    -------
    SubjectView
        One section per contrast, hypotheses first.
    """
    order = {"hypothesis": 0, "negative_control": 1, "exploratory": 2}
    contrasts = sorted(config.contrasts.values(), key=lambda entry: order[entry.role])
    return SubjectView(
        anchor=anchor_of(subject.name),
        name=subject.name,
        lines=_describe(subject, config),
        sections=[_section(subject, entry, config, limits, files) for entry in contrasts],
    )


def overview(inputs: StudyInputs, limits: Limits, data: str) -> Figure | None:
    """Show the primary maps of the first hypothesis for all subjects.

    Parameters
    ----------
    inputs : StudyInputs
        The study.
    limits : mapping of str to float
        Score of the strongest colour, by statistic.
    data : str
        File with the verdicts.

    Returns
    -------
    Figure or None
        None with fewer than two maps.
    """
    if not inputs.config.hypotheses:
        return None
    contrast = inputs.config.hypotheses[0]
    entries = []
    for subject in inputs.subjects:
        scan = subject.scans[contrast.name][0]
        verdict = subject.verdict(contrast.name, scan.phase)
        if scan.profile is not None:
            units = words.read_units(verdict["units"]) if verdict else []
            entries.append((subject.name, _badge(verdict) or "no verdict", scan, units))
    return map_figures.overview_figure(entries, limits, data) if len(entries) > 1 else None


def anchor_of(*names: str) -> str:
    """Make an identifier of the page from names, whatever they contain."""
    slugs = [re.sub(r"[^a-z0-9]+", "-", str(name).lower()).strip("-") for name in names]
    return "-".join(slug or "x" for slug in slugs)


def _section(
    subject: SubjectInputs,
    contrast: ContrastOptions,
    config: StudyConfig,
    limits: Limits,
    files: Files,
) -> Section:
    scans = subject.scans[contrast.name]
    primary = scans[0]
    decides = contrast.role in {"hypothesis", "negative_control"}
    verdict = subject.verdict(contrast.name, primary.phase) if decides else None
    anchor = anchor_of(subject.name, contrast.name)
    evidence = _evidence(subject, primary)
    off = words.read_units(verdict["units"]) if verdict else []
    # What responds at the first phase is among the other units where a causal map is primary.
    shown = [primary, *subject.recorded(contrast.name)[1:]]
    blocks = _where(shown, off, limits, anchor, files)
    recorded = subject.recorded(contrast.name)
    blocks += other_units(subject, recorded[0], config, limits, anchor, files)
    if evidence is not None and verdict is not None:
        blocks += _what_happens(evidence, subject, anchor, files)
        blocks += _what_had_to_hold(evidence, subject, verdict, anchor, files)
        blocks += _in_its_own_words(subject, primary, config, anchor, files)
        blocks += _beside(evidence, subject, anchor, files)
    elif verdict is not None:
        blocks += _checks(verdict, subject)
    return Section(
        anchor=anchor,
        title=words.readable(contrast.name),
        question=ask_contrast(contrast, config.evidence.score, primary.noun, causal=primary.causal),
        answer=answer_contrast(primary, verdict),
        role=contrast.role,
        verdict=_badge(verdict),
        blocks=[block for block in blocks if block is not None],
        leaf=leaf_paths(config)[contrast.name],
        further=_further(subject, primary),
    )


def _further(subject: SubjectInputs, primary: Scan) -> str:
    if not subject.causal.get(primary.contrast.name):
        return ""
    return ", and this map among all causal maps" if primary.causal else " and causal maps"


def _badge(verdict: dict | None) -> str:
    if verdict is None:
        return ""
    return words.verdict_name(verdict)


def _describe(subject: SubjectInputs, config: StudyConfig) -> list[str]:
    options = config.subjects[subject.name]
    source = f"Source: {options.source}"
    if options.state:
        source += f", state {words.readable(options.state)}"
    lines = [f"{source}."]
    if "sha256" in subject.manifest:
        lines.append(f"Files: sha256 {subject.manifest['sha256']}.")
    return lines


def _evidence(subject: SubjectInputs, scan: Scan) -> Evidence | None:
    if scan.finding is None or "primary_endpoint" not in scan.finding or subject.arms.empty:
        return None
    arms = subject.arms_of(scan, scan.name)
    endpoint, secondary = scan.finding["primary_endpoint"], scan.finding.get("secondary", {})
    return None if arms.empty else Evidence(arms, endpoint, secondary, scan.noun)


def _where(
    scans: list[Scan], off: list[list[int]], limits: Limits, anchor: str, files: Files
) -> list[Block | None]:
    primary = scans[0]
    data = files.add(f"map.{anchor}", _map_data(scans))
    blocks: list[Block | None] = [Heading("Where in the model")]
    if primary.statistics is not None:
        blocks.append(map_figures.map_figure(primary, off, limits, anchor, data))
        blocks.append(
            tables.unit_table(
                primary,
                [list(unit) for unit in significant_units(primary.finding)],
                off,
                primary.map_path,
                data,
            )
        )
    if (line := row_space_line(primary.finding)) is not None:
        blocks.append(Prose([line]))
    blocks.append(map_figures.phase_figure(scans[1:], limits, anchor, data))
    return blocks if len([block for block in blocks if block is not None]) > 1 else []


def _what_happens(
    evidence: Evidence, subject: SubjectInputs, anchor: str, files: Files
) -> list[Block | None]:
    source = subject.path("arms")
    data = files.add(f"arms.{anchor}", evidence.arms)
    return [
        Heading("What happens without them"),
        figures.dose_figure(evidence, anchor, source, data),
        figures.sham_figure(evidence, anchor, source, data),
        control_table(evidence, source, data),
        tables.measure_table(evidence, source, data),
    ]


def _what_had_to_hold(
    evidence: Evidence, subject: SubjectInputs, verdict: dict, anchor: str, files: Files
) -> list[Block | None]:
    data = files.add(f"arms.{anchor}", evidence.arms)
    return [
        Heading("What had to hold"),
        tables.check_table(verdict["checks"], subject.path("verdicts")),
        tables.bystander_table(evidence, subject.path("arms"), data),
    ]


def _in_its_own_words(
    subject: SubjectInputs, scan: Scan, config: StudyConfig, anchor: str, files: Files
) -> list[Block | None]:
    rows = subject.transcripts_of(scan)
    if rows.empty:
        return []
    data = files.add(f"transcripts.{anchor}", rows)
    count = config.report.transcripts
    return [
        Heading("In its own words"),
        tables.transcript_table(rows, count, subject.path("transcripts"), data, scan.noun),
    ]


def _beside(
    evidence: Evidence, subject: SubjectInputs, anchor: str, files: Files
) -> list[Block | None]:
    source = subject.path("arms")
    data = files.add(f"arms.{anchor}", evidence.arms)
    blocks = [
        figures.mode_figure(evidence, anchor, source, data),
        tables.beside_table(evidence, source, data),
    ]
    if blocks == [None, None]:
        return []
    return [Heading("Beside the claim", "Reported for completeness. Decides nothing."), *blocks]


def _checks(verdict: dict, subject: SubjectInputs) -> list[Block | None]:
    table = tables.check_table(verdict["checks"], subject.path("verdicts"))
    return [Heading("What had to hold"), table] if table.rows else []


def _map_data(scans: list[Scan]) -> pd.DataFrame:
    frames = [
        tables.unit_frame(scan).assign(phase=scan.phase)
        for scan in scans
        if scan.statistics is not None
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
