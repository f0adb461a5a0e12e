"""What the report reads: every artefact of a study, and a list of those that are not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pandas as pd
import xarray as xr

from lmri.config import ContrastOptions, StudyConfig
from lmri.errors import AlteredError, LmriError
from lmri.report import words
from lmri.store import read_finding, read_manifest, read_map, read_table

ARMS = (
    *("subject", "contrast", "phase", "arm", "mode", "dose", "draw", "primary", "task"),
    *("condition", "trial_role", "held_out", "score", "n", "n_carriers", "value", "intact"),
    *("effect", "low", "high", "units"),
)
TRANSCRIPTS = (
    *("subject", "contrast", "phase", "trial", "condition", "prompt", "fact", "reference"),
    *("intact", "finding", "sham", "sham_draw"),
)
VERDICTS = (
    *("subject", "contrast", "phase", "kind", "method", "role", "status", "verdict", "reason"),
    "units",
    *("dose", "mode", "score", "n", "n_carriers", "intact", "value", "effect", "low", "high"),
    *("shams", "p", "p_corrected", "claims", "sham_mean", "sham_most", "positive_control"),
    *("positive_low", "positive_high", "bystanders_held", "bystanders", "worst_bystander"),
    *("worst_effect", "coherent", "checks", "finding_hash"),
)
CLAIMING_ROLES = ("hypothesis", "negative_control")
KIND_METHOD = "expert.resonance"

Content = TypeVar("Content")


@dataclass(frozen=True)
class Problem:
    """Something that is missing or wrong.

    Attributes
    ----------
    level : str
        ``error`` (something is missing) or ``warning`` (there, but to be read with care).
    subject : str
        Whose; ``study`` when it concerns all.
    path : str
        The file, relative to the folder of the study.
    message : str
        What was found.
    """

    level: str
    subject: str
    path: str
    message: str


@dataclass(frozen=True)
class Scan:
    """One subject, contrast and phase; what could not be read is None."""

    contrast: ContrastOptions
    phase: str
    statistics: xr.Dataset | None
    finding: dict | None
    map_path: str
    finding_path: str


@dataclass(frozen=True)
class SubjectInputs:
    """All artefacts of one subject; tables that could not be read are empty."""

    name: str
    arms: pd.DataFrame
    transcripts: pd.DataFrame
    verdicts: pd.DataFrame
    card: dict
    manifest: dict
    scans: dict[str, list[Scan]]

    def path(self, table: str) -> str:
        """Path of a validation table, relative to the study."""
        return f"validation/{self.name}/{table}.parquet"

    def verdict(self, contrast: str, phase: str) -> dict | None:
        """Return the verdict on one contrast and phase, or None."""
        rows = self.verdicts[
            (self.verdicts["contrast"] == contrast) & (self.verdicts["phase"] == phase)
        ]
        return None if rows.empty else rows.iloc[0].to_dict()


@dataclass(frozen=True)
class StudyInputs:
    """All artefacts of a study.

    Attributes
    ----------
    config : StudyConfig
        The study.
    subjects : list of SubjectInputs
        In the order of the configuration.
    benchmarks : DataFrame
        One row per job: ``job``, ``seconds``, ``max_rss_mb``, ``path``.
    problems : list of Problem
        What is missing or wrong.
    altered : list of AlteredError
        Those of the problems that somebody caused: no failed job explains them.
    """

    config: StudyConfig
    subjects: list[SubjectInputs]
    benchmarks: pd.DataFrame
    problems: list[Problem] = field(default_factory=list)
    altered: list[AlteredError] = field(default_factory=list)

    @property
    def verdicts(self) -> pd.DataFrame:
        """All verdicts of the study, by subject; what was claimed before what must stay empty."""
        tables = [subject.verdicts for subject in self.subjects if len(subject.verdicts)]
        if not tables:
            return pd.DataFrame(columns=VERDICTS)
        table = pd.concat(tables, ignore_index=True)
        is_control = table["role"] == "negative_control"
        return pd.concat([table[~is_control], table[is_control]], ignore_index=True)


def read_study(study: Path, config: StudyConfig) -> StudyInputs:
    """Read every artefact the report shows.

    Parameters
    ----------
    study : Path
        Folder of the study.
    config : StudyConfig
        Which subjects, contrasts and phases to expect.

    Returns
    -------
    StudyInputs
        With a problem for everything that is missing, damaged or does not fit together.

    Raises
    ------
    LmriError
        If no subject has a verdict on what the study claims: there is nothing to report.
    """
    reader = _Reader(study)
    subjects = [_read_subject(reader, name, config) for name in config.subjects]
    benchmarks = _read_benchmarks(reader)
    inputs = StudyInputs(config, subjects, benchmarks, reader.problems, reader.altered)
    claims = any(contrast.role in CLAIMING_ROLES for contrast in config.contrasts.values())
    if claims and inputs.verdicts.empty:
        raise LmriError(
            f"{study}: no verdict of any subject ({', '.join(config.subjects)}); looked for "
            "validation/<subject>/verdicts.parquet. Run the stage 'validate' first."
        )
    return inputs


def phases_of(config: StudyConfig) -> list[str]:
    """Phases of the maps, the primary one first."""
    return list(config.localise.phases)


class _Reader:
    """Reads files below a study and remembers what could not be read."""

    def __init__(self, study: Path) -> None:
        self.study = study
        self.problems: list[Problem] = []
        self.altered: list[AlteredError] = []

    def read(
        self, subject: str, path: str, how: Callable[[Path], Content], otherwise: Content
    ) -> Content:
        try:
            return how(self.study / path)
        except LmriError as error:
            self.note(subject, path, str(error))
            if isinstance(error, AlteredError):
                self.altered.append(error)
            return otherwise

    def note(self, subject: str, path: str, message: str, level: str = "error") -> None:
        # Messages begin with the path on this machine, which is nobody else's business.
        message = message.replace(f"{self.study / path}: ", "").replace(f"{self.study}/", "")
        self.problems.append(Problem(level, subject, path, message))


def _read_subject(reader: _Reader, name: str, config: StudyConfig) -> SubjectInputs:
    tables = {
        table: _read_table(reader, name, table, columns)
        for table, columns in (
            ("arms", ARMS),
            ("transcripts", TRANSCRIPTS),
            ("verdicts", VERDICTS),
        )
    }
    scans = {
        contrast.name: [_read_scan(reader, name, contrast, phase) for phase in phases_of(config)]
        for contrast in config.contrasts.values()
    }
    subject = SubjectInputs(
        name=name,
        card=_read_optional_json(reader, name, f"subjects/{name}/card.json"),
        manifest=reader.read(name, f"subjects/{name}.manifest.json", read_manifest, {}),
        scans=scans,
        **tables,
    )
    _check_verdicts(reader, subject, config)
    return subject


def _read_table(
    reader: _Reader, subject: str, table: str, columns: tuple[str, ...]
) -> pd.DataFrame:
    return reader.read(
        subject,
        f"validation/{subject}/{table}.parquet",
        lambda path: read_table(path, columns),
        pd.DataFrame(columns=list(columns)),
    )


def _read_scan(reader: _Reader, subject: str, contrast: ContrastOptions, phase: str) -> Scan:
    place = f"{subject}/{contrast.name}.{phase}/{KIND_METHOD}"
    map_path, finding_path = f"maps/{place}.zarr", f"findings/localise/{place}.json"
    finding = reader.read(subject, finding_path, read_finding, None)
    mapped = finding is None or words.was_mapped(finding["status"], finding["units"])
    return Scan(
        contrast=contrast,
        phase=phase,
        statistics=reader.read(subject, map_path, read_map, None) if mapped else None,
        finding=finding,
        map_path=map_path,
        finding_path=finding_path,
    )


def _read_optional_json(reader: _Reader, subject: str, path: str) -> dict:
    """Read a file that external subjects need not have; a damaged one is a problem."""
    if not (reader.study / path).is_file():
        return {}
    try:
        content = json.loads((reader.study / path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reader.note(subject, path, f"not readable JSON ({error}).")
        return {}
    return content if isinstance(content, dict) else {}


def _check_verdicts(reader: _Reader, subject: SubjectInputs, config: StudyConfig) -> None:
    if subject.verdicts.empty:
        return
    for contrast in config.contrasts.values():
        if contrast.role not in CLAIMING_ROLES:
            continue
        scan = subject.scans[contrast.name][0]
        verdict = subject.verdict(contrast.name, scan.phase)
        if verdict is None:
            reader.note(
                subject.name,
                subject.path("verdicts"),
                f"no verdict on '{contrast.name}' in the phase '{scan.phase}'.",
            )
            continue
        if verdict["units"] != "[]" and not words.read_checks(verdict["checks"]):
            reader.note(
                subject.name,
                subject.path("verdicts"),
                f"the verdict on '{contrast.name}' does not say which checks were passed.",
                level="warning",
            )
        if scan.finding is not None and verdict["finding_hash"] != scan.finding["hash"]:
            reader.note(
                subject.name,
                scan.finding_path,
                "the verdict was reached on another version of this finding (the hashes differ).",
                level="warning",
            )


def _read_benchmarks(reader: _Reader) -> pd.DataFrame:
    rows = []
    for file in sorted((reader.study / "benchmarks").glob("**/*.tsv")):
        path = file.relative_to(reader.study).as_posix()
        # A run time of the report itself can only be that of an earlier run.
        if path == "benchmarks/report.tsv":
            continue
        try:
            entry = pd.read_csv(file, sep="\t").iloc[-1]
            rows.append(
                {
                    "job": path.removeprefix("benchmarks/").removesuffix(".tsv"),
                    "seconds": float(entry["s"]),
                    "max_rss_mb": pd.to_numeric(entry.get("max_rss"), errors="coerce"),
                    "path": path,
                }
            )
        except (OSError, ValueError, KeyError, IndexError) as error:
            reader.note("study", path, f"not a readable benchmark ({error}).", level="warning")
    return pd.DataFrame(rows, columns=["job", "seconds", "max_rss_mb", "path"])
