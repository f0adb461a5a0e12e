"""Pages beside the report: one for each contrast over all subjects; heads, layers and so on."""

from __future__ import annotations

import re

from lmri.config import StudyConfig
from lmri.report import words
from lmri.report.atlas.page import PATH as ATLAS
from lmri.report.atlas.page import TITLE as ATLAS_TITLE
from lmri.report.bottleneck.page import TITLE as BOTTLENECK_TITLE
from lmri.report.bottleneck.page import bottleneck_leaf
from lmri.report.contrast_leaf import contrast_leaf
from lmri.report.files import Files
from lmri.report.heads_leaf import heads_leaf
from lmri.report.information.page import information_leaf
from lmri.report.inputs import StudyInputs
from lmri.report.layers.page import TITLE, has_layers, layers_leaf
from lmri.report.map_figures import score_limits
from lmri.report.sparsity.page import sparse_leaf
from lmri.report.validation.page import TITLE as EVIDENCE_TITLE
from lmri.report.validation.page import evidence_leaf, has_evidence
from lmri.report.view import Leaf, Link

FOLDER = "contrasts"
PAGES = "pages"
EVIDENCE, HEADS, LAYERS, SPARSITY, INFORMATION, BOTTLENECK = (
    f"{PAGES}/{name}.html"
    for name in ("evidence", "heads", "layers", "sparsity", "information", "bottleneck")
)


def leaf_paths(config: StudyConfig) -> dict[str, str]:
    """Name the page of every contrast.

    Parameters
    ----------
    config : StudyConfig
        The study.

    Returns
    -------
    dict of str to str
        Path relative to the report, by contrast: letters, digits and hyphens, each once.
    """
    paths: dict[str, str] = {}
    taken: set[str] = set()
    for contrast in config.contrasts:
        slug = re.sub(r"[^a-z0-9]+", "-", contrast.lower()).strip("-") or "x"
        name, number = slug, 2
        while name in taken:
            name, number = f"{slug}-{number}", number + 1
        taken.add(name)
        paths[contrast] = f"{FOLDER}/{name}.html"
    return paths


def leaf_links(inputs: StudyInputs) -> list[Link]:
    """List the pages beside the report, those of contrasts first.

    Parameters
    ----------
    inputs : StudyInputs
        The study.

    Returns
    -------
    list of Link
        In the order of the study.
    """
    links = [
        Link(words.readable(contrast).capitalize(), path)
        for contrast, path in leaf_paths(inputs.config).items()
    ]
    if has_evidence(inputs):
        links.append(Link(EVIDENCE_TITLE, EVIDENCE))
    if has_maps(inputs):
        links.append(Link(ATLAS_TITLE, ATLAS))
    if _has_heads(inputs):
        links.append(Link("Attention heads", HEADS))
    if has_layers(inputs):
        links.append(Link(TITLE, LAYERS))
    if len(inputs.sparse.quality):
        links.append(Link("Sparsity", SPARSITY))
    if inputs.information:
        links.append(Link("Information", INFORMATION))
    if len(inputs.bottleneck.claims):
        links.append(Link(BOTTLENECK_TITLE, BOTTLENECK))
    return links


def build_leaves(inputs: StudyInputs, files: Files) -> list[Leaf]:
    """Put the pages beside the report together.

    Parameters
    ----------
    inputs : StudyInputs
        What was read.
    files : Files
        Takes the data behind figures and tables.

    Returns
    -------
    list of Leaf
        In the order of :func:`leaf_links`.
    """
    paths = leaf_paths(inputs.config)
    leaves = []
    for name, contrast in inputs.config.contrasts.items():
        # A scale of their own: beside a strong contrast the maps of a weak one would be blank.
        limits = score_limits([scan for subject in inputs.subjects for scan in subject.scans[name]])
        leaves.append(contrast_leaf(inputs, contrast, paths[name], limits, files))
    if has_evidence(inputs):
        leaves.append(evidence_leaf(inputs, EVIDENCE, files))
    if _has_heads(inputs):
        leaves.append(heads_leaf(inputs, HEADS, files))
    if has_layers(inputs):
        leaves.append(layers_leaf(inputs, LAYERS, files))
    if len(inputs.sparse.quality):
        leaves.append(sparse_leaf(inputs, SPARSITY, files))
    if inputs.information:
        leaves.append(information_leaf(inputs, INFORMATION, files))
    if len(inputs.bottleneck.claims):
        leaves.append(bottleneck_leaf(inputs, BOTTLENECK, files))
    return leaves


def has_maps(inputs: StudyInputs) -> bool:
    """Whether there is a map for the atlas.

    Parameters
    ----------
    inputs : StudyInputs
        What was read.

    Returns
    -------
    bool
        False where every map is missing or was not made.
    """
    return any(own.profile is not None for scan in inputs.scans for own in (scan, *scan.others))


def _has_heads(inputs: StudyInputs) -> bool:
    return len(inputs.group.heads) > 0 and len(inputs.group.scores) > 0
