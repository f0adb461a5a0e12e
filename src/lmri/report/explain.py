"""``lmri explain``: the chain of evidence behind one verdict, with the files it stands in.

Every link is read again and held against the next: the hash of the finding, the finding that the
verdict was reached on, the manifests of the recordings and of the subject. What does not fit is
said where it stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from lmri.errors import LmriError, StoreError
from lmri.report import words
from lmri.report.inputs import VERDICTS
from lmri.report.kinds import MapName
from lmri.report.row_space import row_space_line
from lmri.report.validation.tables import CLAIMS
from lmri.report.validation.ways import other_way
from lmri.store import read_finding, read_manifest, read_map, read_table

WIDTH = 12


def explain_verdict(study: Path, name: str) -> list[str]:
    """Tell what a verdict rests on.

    Parameters
    ----------
    study : Path
        Folder of the study, ``results/<study>``.
    name : str
        ``<subject>/<contrast>``; with several verdicts on a contrast also its phase and map, as
        ``<subject>/<contrast>.<phase>/<kind>.<method>``.

    Returns
    -------
    list of str
        Lines: what, then the file it was read from.

    Raises
    ------
    LmriError
        If there is no such verdict, or several.
    """
    verdict = _find(study, name)
    place = f"{verdict['subject']}/{verdict['contrast']}.{verdict['phase']}"
    file = f"{verdict['kind']}.{verdict['method']}"
    finding_path = study / "findings" / "localise" / place / f"{file}.json"
    return [
        *_verdict_lines(study, verdict),
        *_claim_lines(study, verdict),
        *_finding_lines(finding_path, verdict),
        *_map_lines(study / "maps" / place / f"{file}.zarr"),
        *_recording_lines(study, finding_path, str(verdict["subject"])),
        *_subject_lines(study, str(verdict["subject"])),
    ]


def _find(study: Path, name: str) -> dict:
    tables = sorted((study / "validation").glob("*/verdicts.parquet"))
    if not tables:
        raise LmriError(
            f"{study}: no verdict; looked for validation/<subject>/verdicts.parquet. Give the "
            "folder of a study that was validated as --study."
        )
    table = pd.concat([read_table(path, VERDICTS) for path in tables], ignore_index=True)
    short = table["subject"] + "/" + table["contrast"]
    full = short + "." + table["phase"] + "/" + table["kind"] + "." + table["method"]
    for names in (full, short):
        rows = table[names == name]
        if len(rows) == 1:
            return rows.iloc[0].to_dict()
        if len(rows) > 1:
            raise LmriError(
                f"{study}: '{name}' names {len(rows)} verdicts. Give one of "
                f"{', '.join(full[names == name])}."
            )
    raise LmriError(f"{study}: no verdict '{name}'. Give one of {', '.join(short.unique())}.")


def _verdict_lines(study: Path, verdict: dict) -> Iterator[str]:
    yield _line("verdict", f"{words.verdict_name(verdict)}: {verdict['reason']}")
    for check in words.read_checks(verdict["checks"]):
        held = "held" if check["passed"] else "failed"
        yield _line("", f"{held}: {check['check']} ({check['detail']})")
    yield _line("", f"would change it: {other_way(verdict)}")
    yield _file(study / "validation" / str(verdict["subject"]) / "verdicts.parquet")


def _claim_lines(study: Path, verdict: dict) -> Iterator[str]:
    """Every claim of the finding beside the verdict; none of a study that states none."""
    path = study / "validation" / str(verdict["subject"]) / "claims.parquet"
    if not path.is_file():
        return
    try:
        table = read_table(path, CLAIMS)
    except StoreError as error:
        yield _line("claims", str(error))
        return
    names = ("contrast", "phase", "kind", "method")
    own = table[(table[list(names)] == [verdict[name] for name in names]).all(axis=1)]
    for number, row in enumerate(own.to_dict("records")):
        told = f"{row['claim']} {row['outcome']}: {row['reason']}"
        yield _line("claims" if number == 0 else "", told)
        if row["statement"]:
            p = words.probability(row["p_corrected"])
            yield _line("", f"  {row['statement']} p {p} ({row['family']})")
    if len(own):
        yield _file(path)


def _finding_lines(path: Path, verdict: dict) -> Iterator[str]:
    try:
        finding = read_finding(path)
    except StoreError as error:
        yield _line("rule", f"NOT TO BE TRUSTED: {error}")
        return
    same = finding["hash"] == verdict["finding_hash"]
    yield _line("rule", f"fixed {finding['written']}, sha256 {finding['hash']}")
    if not same:
        yield _line("", f"THE VERDICT WAS REACHED ON ANOTHER VERSION: {verdict['finding_hash']}")
    endpoint = finding.get("primary_endpoint")
    if endpoint is None:
        yield _line("", f"no primary endpoint: {finding['reason'] or finding['status']}")
    else:
        noun = MapName(f"{finding['kind']}.{finding['method']}").noun
        yield _line(
            "",
            f"{words.mode_name(endpoint['mode'])}: {noun.count(endpoint['dose'])} "
            f"({words.unit_names(endpoint['units'])}); {endpoint['score']} must "
            f"{endpoint['direction']} by more than {endpoint['margin']:g} in "
            f"{words.listing(endpoint['target'])} of {endpoint['task']}, beyond "
            f"{endpoint['shams']} sham maps at {endpoint['alpha']:g} over {endpoint['claims']} "
            "claims",
        )
    if (line := row_space_line(finding)) is not None:
        yield _line("", " ".join(line))
    if "dictionary" in finding:
        yield _line("dictionary", f"sha256 {finding['dictionary'].get('sha256', '?')}")
        yield _line("", f"-> {finding['dictionary'].get('path', '?')}")
    yield _file(path)


def _map_lines(path: Path) -> Iterator[str]:
    try:
        attributes = read_map(path).attrs
    except StoreError as error:
        yield _line("map", str(error))
        return
    if "n_pairs" in attributes:
        yield from _causal_lines(path, attributes)
        return
    yield _line(
        "map",
        f"{attributes.get('statistic', '')} of {attributes.get('n_target', '?')} against "
        f"{attributes.get('n_control', '?')} trials; carriers {attributes.get('carriers', '?')}; "
        f"{attributes.get('permutations', '?')} relabellings, seed {attributes.get('seed', '?')}",
    )
    yield _file(path)


def _causal_lines(path: Path, attributes: Mapping) -> Iterator[str]:
    """Tell of a causal map, which was made by running pairs of selection trials again."""
    name = MapName(path.stem)
    differences = (
        words.signed(attributes.get(f"{run}_difference")) for run in ("clean", "corrupted")
    )
    clean, corrupted = differences
    yield _line(
        "map",
        f"causal map of {name.described}; {attributes['n_pairs']} pairs of selection trials, logit "
        f"difference {clean} in clean and {corrupted} in corrupted runs; seed "
        f"{attributes.get('seed', '?')}",
    )
    if "patching_correlation" in attributes:
        agreed = (
            words.number(attributes.get(f"patching_{end}"))
            for end in ("correlation", "low", "high")
        )
        yield _line("", "correlation with patching {} ({} to {})".format(*agreed))
    yield _file(path)


def _recording_lines(study: Path, finding: Path, subject: str) -> Iterator[str]:
    try:
        task = str(json.loads(finding.read_text(encoding="utf-8")).get("task", ""))
    except (OSError, ValueError):
        return
    folder = study / "recordings" / subject / task
    for path in sorted(folder.glob("*.zarr.manifest.json")):
        try:
            manifest = read_manifest(path)
        except StoreError as error:
            yield _line("recording", str(error))
            continue
        yield _line(
            "recording", f"{manifest.get('trials', '?')} trials, sha256 {manifest['sha256']}"
        )
        yield _file(path)
    yield _file(study / "stimuli" / f"{task}.parquet")


def _subject_lines(study: Path, subject: str) -> Iterator[str]:
    path = study / "subjects" / f"{subject}.manifest.json"
    try:
        manifest = read_manifest(path)
    except StoreError as error:
        yield _line("subject", str(error))
        return
    yield _line("subject", f"{subject}, sha256 {manifest['sha256']}")
    origin = manifest.get("provenance", {})
    yield _line("code", f"lmri {origin.get('lmri', '?')}, sha256 {origin.get('code', '?')}")
    yield _file(path)


def _line(what: str, text: str) -> str:
    return f"{what:<{WIDTH}}{text}"


def _file(path: Path) -> str:
    return _line("", f"-> {path}")
