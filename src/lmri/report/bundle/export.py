"""Writing a bundle: one file with what a study found, to be reopened elsewhere."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import zipfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

import zarr

from lmri.checks import check_choice
from lmri.config import StudyConfig
from lmri.errors import StoreError
from lmri.report.methods import describe_methods
from lmri.report.reading import read_study
from lmri.report.redaction import LEVELS, PROMPTS, RESPONSES, redact_settings, redact_table
from lmri.report.references import bibliography, references_of
from lmri.store import atomic_file, read_table

FORMAT = "lmri.bundle/1"
STUDY = "study"
"""Folder of the artefacts in a bundle."""

SETTINGS, SUMS, CRATE = "study.json", "SHA256SUMS", "ro-crate-metadata.json"

KEPT = (
    "analyses/**/*",
    "benchmarks/**/*.tsv",
    "bottleneck/summary/*.parquet",
    "experiments/*/*/*.parquet",
    "experiments/*/*/outcome.json",
    "findings/**/*.json",
    "group/*.parquet",
    "maps/**/*",
    "plans/**/*.json",
    "sparse/*/runs/*.parquet",
    "sparse/*/survival.parquet",
    "subjects/*.manifest.json",
    "subjects/*/card.json",
    "validation/*/*.parquet",
)
"""What a bundle holds: all that the report reads. No activations, weights, stimuli or logs."""

UNITS = ("experiments/", "findings/", "maps/", "plans/")
"""What names units, or may, and is left out where these are to stay at home."""

WITHHELD = "withheld"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same study gives the same bytes


def export_study(
    *,
    study: Path,
    out: Path,
    config: StudyConfig,
    provenance: Mapping,
    redact: str | None = None,
    withhold_units: bool = False,
) -> Path:
    """Write a bundle of a study.

    Parameters
    ----------
    study : Path
        Folder of the study.
    out : Path
        The file to write, a zip archive.
    config : StudyConfig
        The study.
    provenance : mapping
        Versions, hashes and seeds.
    redact : str, optional
        One of :data:`lmri.report.redaction.LEVELS`; by default that of the study. A study that
        redacts cannot be exported with less.
    withhold_units : bool
        Leave out maps, findings, experiments and plans, and the names of units in tables.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    StoreError
        If there is nothing to export, or less was to be redacted than the study asks for.
    """
    level = _level(config, redact)
    files = dict(_files(study, level, withhold_units))
    if not any(name.startswith("validation/") for name in files):
        raise StoreError(
            f"{study}: no verdict to export; looked for validation/<subject>/verdicts.parquet. "
            "Run the stage 'validate' first."
        )
    contents = {f"{STUDY}/{name}": content for name, content in files.items()}
    contents |= _about(study, config, provenance, level, withhold_units)
    contents[CRATE] = _crate(config, contents)
    sums = "".join(f"{_hash(contents[name])}  {name}\n" for name in sorted(contents))
    contents[SUMS] = sums.encode()
    with (
        atomic_file(out) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, contents[name])
    return out


def _level(config: StudyConfig, redact: str | None) -> str:
    asked = config.report.redact
    if redact is None:
        return asked
    check_choice(redact, LEVELS, "--redact", "an export", StoreError)
    if LEVELS.index(redact) < LEVELS.index(asked):
        raise StoreError(
            f"--redact must be at least '{asked}', which the study asks for in 'report.redact'. "
            f"Got '{redact}'."
        )
    return redact


def _files(study: Path, level: str, withhold_units: bool) -> Iterator[tuple[str, bytes]]:
    left_out = _wordy_stores(study) if level != "none" else set()
    for pattern in KEPT:
        for path in sorted(study.glob(pattern)):
            name = path.relative_to(study).as_posix()
            if not path.is_file() or path.is_symlink() or path.name.startswith("."):
                continue
            if withhold_units and name.startswith(UNITS):
                continue
            if any(store in path.parents for store in left_out):
                continue
            yield name, _content(path, level, withhold_units)


def _content(path: Path, level: str, withhold_units: bool) -> bytes:
    if path.suffix != ".parquet":
        return path.read_bytes()
    table = redact_table(read_table(path), level)
    if withhold_units and "units" in table:
        table = table.assign(units=[_count(units) for units in table["units"]])
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _count(units: object) -> str:
    """Stand-in for a list of units that keeps their number."""
    listed = json.loads(units) if isinstance(units, str) and units else []
    return json.dumps([WITHHELD] * len(listed))


def _wordy_stores(study: Path) -> set[Path]:
    """Stores with arrays of words, which are left out of a bundle that redacts."""
    words = {*RESPONSES, *PROMPTS}
    found = set()
    for marker in study.glob("analyses/**/zarr.json"):
        group = marker.parent
        if json.loads(marker.read_text(encoding="utf-8")).get("node_type") != "group":
            continue
        for name, array in zarr.open_group(group, mode="r", zarr_format=3).arrays():
            if name in words and array.dtype.kind not in "iufb":
                found.add(group)
    return found


def _about(
    study: Path, config: StudyConfig, provenance: Mapping, level: str, withhold_units: bool
) -> dict[str, bytes]:
    settings = redact_settings(config.to_dict(), level)
    head = {
        "schema": FORMAT,
        "redact": level,
        "units_withheld": withhold_units,
        "provenance": dict(provenance),
        "study": settings,
    }
    methods = describe_methods(read_study(study, config))
    return {
        SETTINGS: json.dumps(head, indent=1).encode(),
        "methods.md": ("# Methods\n\n" + "\n\n".join(methods) + "\n").encode(),
        "references.bib": bibliography(references_of(config)).encode(),
        "environment.txt": _environment().encode(),
        "README.md": _readme(config, level, withhold_units).encode(),
    }


def _environment() -> str:
    packages = sorted({f"{d.metadata['Name']}=={d.version}" for d in metadata.distributions()})
    return "\n".join([f"# Python {platform.python_version()}", *packages]) + "\n"


def _readme(config: StudyConfig, level: str, withhold_units: bool) -> str:
    redacted = {
        "none": "Nothing was redacted.",
        "responses": "What the models said was replaced by hashes.",
        "all": "Prompts, what they are about, and what the models said were replaced by hashes.",
    }[level]
    units = (
        " Maps, findings, experiments and the names of units were left out."
        if withhold_units
        else ""
    )
    return (
        f"# Study {config.study}\n\nWhat an lmri study found: maps, findings, re-runs, verdicts, "
        "settings, and the text of its methods with references. No activations, weights or "
        f"stimuli. {redacted}{units}\n\nThe report is written from it by `lmri report THIS_FILE "
        f"--out FOLDER`. `{SUMS}` has the hash of every file.\n"
    )


def _crate(config: StudyConfig, contents: Mapping[str, bytes]) -> bytes:
    """Describe the bundle as a research object (RO-Crate 1.1)."""
    parts = [{"@id": name} for name in sorted(contents)]
    graph = [
        {
            "@id": CRATE,
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"lmri study {config.study}",
            "description": "Maps, findings, re-runs and verdicts of language models.",
            "hasPart": parts,
        },
        *(
            {
                "@id": name,
                "@type": "File",
                "contentSize": str(len(contents[name])),
                "sha256": _hash(contents[name]),
            }
            for name in sorted(contents)
        ),
    ]
    context = "https://w3id.org/ro/crate/1.1/context"
    return json.dumps({"@context": context, "@graph": graph}, indent=1).encode()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
