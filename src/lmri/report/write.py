"""Writing the report and the table of all verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lmri.config import StudyConfig
from lmri.report.atlas.data import atlas_maps
from lmri.report.atlas.page import PATH as ATLAS
from lmri.report.atlas.page import atlas_page
from lmri.report.files import Files
from lmri.report.leaves import FOLDER, PAGES, build_leaves, has_maps, leaf_links
from lmri.report.map_figures import score_limits
from lmri.report.page import build_page, render_atlas, render_leaf, render_page
from lmri.report.reading import read_study
from lmri.store import atomic_directory, write_table

PAGE = "index.html"


def write_report(*, study: Path, out: Path, config: StudyConfig, provenance: Mapping) -> Path:
    """Write the report of a study.

    The same inputs give the same bytes. What is missing is listed in the report.

    Parameters
    ----------
    study : Path
        Folder of the study, with ``maps``, ``findings`` and ``validation``; the table of all
        verdicts is written here as ``verdicts.parquet``.
    out : Path
        Folder of the report, written whole or not at all: ``index.html``,
        ``contrasts/*.html``, ``pages/*.html`` and ``files/*.csv``.
    config : StudyConfig
        The study.
    provenance : mapping
        Package version, code hash, hash of the configuration and the like; may be nested.

    Returns
    -------
    Path
        ``out/index.html``.

    Raises
    ------
    LmriError
        If no subject has a verdict.
    AlteredError
        If a finding was changed after it was written. The report is there nevertheless, and lists
        it; what is only missing, as in a study that failed half-way, is listed and no error.
    """
    inputs = read_study(study, config)
    files = Files()
    limits = score_limits(inputs.scans)
    html = render_page(build_page(inputs, limits, provenance, files))
    leaves, links = build_leaves(inputs, files), leaf_links(inputs)
    with atomic_directory(out) as partial:
        (partial / PAGE).write_text(html, encoding="utf-8")
        for folder in (FOLDER, PAGES):  # outputs of the workflow, also where they stay empty
            (partial / folder).mkdir()
        for leaf in leaves:
            (partial / leaf.path).write_text(render_leaf(leaf, links), encoding="utf-8")
        if has_maps(inputs):
            atlas = atlas_page(config.study, atlas_maps(inputs))
            (partial / ATLAS).write_text(render_atlas(atlas, links), encoding="utf-8")
        files.write(partial)
    write_table(study / "verdicts.parquet", inputs.verdicts)
    if inputs.altered:
        raise inputs.altered[0]
    return out / PAGE
