"""Reading every artefact of a study: what is missing or damaged becomes a problem, no failure."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import xarray as xr

from lmri.config import ContrastOptions, StudyConfig
from lmri.errors import LmriError, StoreError
from lmri.report import group, words
from lmri.report.align.tables import read_alignment
from lmri.report.bottleneck.tables import read_bottleneck
from lmri.report.causal.maps import CausalMap, read_causal
from lmri.report.connect.tables import read_networks
from lmri.report.decode.tables import read_decoding
from lmri.report.encoding.tables import read_encoding
from lmri.report.examples.tables import read_examples
from lmri.report.experiments.tables import read_experiments
from lmri.report.group import Group
from lmri.report.information.tables import read_information
from lmri.report.inputs import (
    ARMS,
    CLAIMING_ROLES,
    TRANSCRIPTS,
    VERDICTS,
    OtherMap,
    Scan,
    StudyInputs,
    SubjectInputs,
    claimed_map,
)
from lmri.report.kinds import MapName
from lmri.report.layers.probes import Probes, read_probes
from lmri.report.profiles import profile
from lmri.report.reader import Reader
from lmri.report.redaction import redact_table
from lmri.report.row_space import is_illusory
from lmri.report.sparsity.tables import read_sparse
from lmri.report.validation.tables import CLAIMS, COMPARISONS
from lmri.store import CAUSAL_PHASE, read_finding, read_manifest, read_map, read_table

EVERYWHERE = ("head", "residual", "layer")
"""Kinds of units that every subject has."""


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
    reader = Reader(study)
    inputs = StudyInputs(
        config=config,
        subjects=[_read_subject(reader, name, config) for name in config.subjects],
        benchmarks=_read_benchmarks(reader),
        group=_read_group(reader),
        sparse=read_sparse(reader, config),
        information=read_information(reader, config),
        encoding=read_encoding(reader, config),
        examples=read_examples(reader, config),
        decoding=read_decoding(reader, config),
        networks=read_networks(reader, config),
        alignment=read_alignment(reader, config),
        bottleneck=read_bottleneck(reader, config),
        comparisons=_read_comparisons(reader, config),
        experiments=read_experiments(reader, config),
        problems=reader.problems,
        altered=reader.altered,
    )
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


def _read_subject(reader: Reader, name: str, config: StudyConfig) -> SubjectInputs:
    tables = {
        table: _read_table(reader, name, table, columns, config.report.redact)
        for table, columns in (
            ("arms", ARMS),
            ("transcripts", TRANSCRIPTS),
            ("verdicts", VERDICTS),
        )
    }
    maps = _maps_of(reader.study, name, config)
    scans = {
        contrast.name: _read_scans(reader, name, contrast, maps, config)
        for contrast in config.contrasts.values()
    }
    subject = SubjectInputs(
        name=name,
        card=_read_optional_json(reader, name, f"subjects/{name}/card.json"),
        manifest=reader.read(name, f"subjects/{name}.manifest.json", read_manifest, {}),
        scans=scans,
        causal=_read_causal(reader, name, config),
        probes=_read_probes(reader, name, config),
        claims=_read_claims(reader, name, scans, config.report.redact),
        **tables,
    )
    _check_verdicts(reader, subject, config)
    return subject


def _read_claims(
    reader: Reader, name: str, scans: dict[str, list[Scan]], redact: str
) -> pd.DataFrame:
    """Read what came of claims, where a finding states any."""
    findings = [scan.finding for own in scans.values() for scan in own]
    if not any(finding is not None and "claims" in finding for finding in findings):
        return pd.DataFrame()
    return _read_table(reader, name, "claims", CLAIMS, redact)


def _read_comparisons(reader: Reader, config: StudyConfig) -> pd.DataFrame:
    """Read how subjects differ; a study that was validated only may not have compared them."""
    path = "comparisons.parquet"
    if not config.compared or not (reader.study / path).is_file():
        return pd.DataFrame()
    empty = pd.DataFrame(columns=list(COMPARISONS))
    return reader.read("study", path, lambda own: read_table(own, COMPARISONS), empty)


def _read_causal(reader: Reader, name: str, config: StudyConfig) -> dict[str, list[CausalMap]]:
    causal = config.localise.causal
    asked = [] if causal is None else [config.contrasts[own] for own in causal.contrasts]
    alpha = config.evidence.alpha
    return {own.name: read_causal(reader, name, own, causal, alpha) for own in asked}


def _read_probes(reader: Reader, name: str, config: StudyConfig) -> Probes:
    return (
        Probes() if config.localise.probes is None else read_probes(reader, name, [*config.tasks])
    )


def _maps_of(study: Path, subject: str, config: StudyConfig) -> list[MapName]:
    """Maps that a subject should have, the primary one first.

    Those of a kind that it lacks are left out by the stage that makes them, so a kind is missing
    only if there is some file of it.
    """
    present = {
        path.name.partition(".")[0]
        for pattern in (f"maps/{subject}/*/*.zarr", f"findings/localise/{subject}/*/*.json")
        for path in study.glob(pattern)
    }
    names = [MapName(name) for name in config.localise.maps]
    expected = [n for n in names if n.kind in present or (n.kind in EVERYWHERE and present)]
    return expected or names[:1]


def _read_table(
    reader: Reader, subject: str, table: str, columns: tuple[str, ...], redact: str
) -> pd.DataFrame:
    return reader.read(
        subject,
        f"validation/{subject}/{table}.parquet",
        lambda path: redact_table(read_table(path, columns), redact),
        pd.DataFrame(columns=list(columns)),
    )


def _read_scans(
    reader: Reader,
    subject: str,
    contrast: ContrastOptions,
    maps: list[MapName],
    config: StudyConfig,
) -> list[Scan]:
    """Read the maps of a contrast, the primary one first."""
    claimed = claimed_map(config, contrast)
    # Beside a causal map that is primary, the first map is one of the others, too.
    first = maps if claimed is None else [maps[0], *maps]
    scans = [
        _read_scan(reader, subject, contrast, phase, first if number == 0 else maps[:1], config)
        for number, phase in enumerate(phases_of(config))
    ]
    if claimed is None:
        return scans
    return [_read_scan(reader, subject, contrast, CAUSAL_PHASE, [claimed], config), *scans]


def _read_scan(
    reader: Reader,
    subject: str,
    contrast: ContrastOptions,
    phase: str,
    maps: list[MapName],
    config: StudyConfig,
) -> Scan:
    primary, *others = maps
    place = f"{subject}/{contrast.name}.{phase}"
    finding, statistics = _read_map(reader, subject, place, primary)
    alpha = config.evidence.alpha
    return Scan(
        contrast=contrast,
        phase=phase,
        statistics=statistics,
        profile=None if statistics is None else profile(primary.name, statistics, alpha),
        finding=finding,
        map_path=f"maps/{place}/{primary.name}.zarr",
        finding_path=f"findings/localise/{place}/{primary.name}.json",
        name=primary,
        others=[_read_other(reader, subject, place, name, alpha) for name in others],
    )


def _read_other(reader: Reader, subject: str, place: str, name: MapName, alpha: float) -> OtherMap:
    finding, statistics = _read_map(reader, subject, place, name)
    return OtherMap(
        name=name,
        profile=None if statistics is None else profile(name.name, statistics, alpha),
        finding=finding,
        map_path=f"maps/{place}/{name.name}.zarr",
        statistics=statistics,
    )


def _read_map(
    reader: Reader, subject: str, place: str, name: MapName
) -> tuple[dict | None, xr.Dataset | None]:
    """Read a finding and its map, if it has one."""
    path = f"findings/localise/{place}/{name.name}.json"
    finding = reader.read(subject, path, read_finding, None)
    if is_illusory(finding):
        reader.note(
            subject,
            path,
            "most of the effect is by what the model does not read ('row_space'), which may be an "
            "illusion.",
            level="warning",
        )
    if finding is not None and not words.was_mapped(finding["status"], finding["units"]):
        return finding, None

    def read(path: Path) -> xr.Dataset:
        statistics = read_map(path)
        missing = {"score"} - set(statistics.data_vars) or (
            set(name.noun.dims) - set(statistics["score"].dims)
        )
        if missing:
            raise StoreError(f"{path}: has no '{min(missing)}'. Localise again.")
        # Not what a causal map keeps of single pairs and carriers.
        dims = set(name.noun.dims)
        statistics = statistics[[n for n, own in statistics.items() if set(own.dims) <= dims]]
        # Places have names in a map, and their numbers in the names of units.
        places = {"place": range(statistics.sizes["place"])} if "place" in statistics.dims else {}
        return statistics.assign_coords(places)

    return finding, reader.read(subject, f"maps/{place}/{name.name}.zarr", read, None)


def _read_group(reader: Reader) -> Group:
    """Read the tables over all subjects; the page is whole without them, but says so."""
    tables = {
        name: reader.read(
            "study",
            f"group/{name}.parquet",
            lambda path, columns=columns: read_table(path, columns),
            pd.DataFrame(columns=list(columns)),
            "warning",
        )
        for name, columns in group.TABLES.items()
    }
    heads = "group/heads.parquet"
    if (reader.study / heads).is_file():
        tables["heads"] = reader.read(
            "study",
            heads,
            lambda path: read_table(path, group.HEADS),
            pd.DataFrame(columns=list(group.HEADS)),
        )
    return Group(**tables)


def _read_optional_json(reader: Reader, subject: str, path: str) -> dict:
    """Read a file that external subjects need not have; a damaged one is a problem."""
    if not (reader.study / path).is_file():
        return {}
    try:
        content = json.loads((reader.study / path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reader.note(subject, path, f"not readable JSON ({error}).")
        return {}
    return content if isinstance(content, dict) else {}


def _check_verdicts(reader: Reader, subject: SubjectInputs, config: StudyConfig) -> None:
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
        tested = verdict["verdict"] != "not testable" and verdict["units"] != "[]"
        if tested and not words.read_checks(verdict["checks"]):
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


def _read_benchmarks(reader: Reader) -> pd.DataFrame:
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
