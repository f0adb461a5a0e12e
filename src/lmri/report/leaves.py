"""Pages beside the report: one for each contrast over all subjects; heads, layers and so on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from lmri.config import StudyConfig
from lmri.report import words
from lmri.report.align.page import TITLE as ALIGNMENT_TITLE
from lmri.report.align.page import align_leaf
from lmri.report.atlas.page import PATH as ATLAS
from lmri.report.atlas.page import TITLE as ATLAS_TITLE
from lmri.report.bottleneck.page import TITLE as BOTTLENECK_TITLE
from lmri.report.bottleneck.page import bottleneck_leaf
from lmri.report.connect.page import TITLE as NETWORKS_TITLE
from lmri.report.connect.page import connect_leaf
from lmri.report.contrast_leaf import contrast_leaf
from lmri.report.decode.page import TITLE as DECODING_TITLE
from lmri.report.decode.page import decoding_leaf
from lmri.report.encoding.page import TITLE as ENCODING_TITLE
from lmri.report.encoding.page import encoding_leaf
from lmri.report.experiments.page import TITLE as EXPERIMENTS_TITLE
from lmri.report.experiments.page import experiments_leaf
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


@dataclass(frozen=True)
class PageOfStudy:
    """A page of no single contrast.

    Attributes
    ----------
    name : str
        Of its file.
    title : str
        Of its link.
    wanted : callable
        Whether there is something to show.
    build : callable
        Puts it together from the study, its path and the files behind figures.
    """

    name: str
    title: str
    wanted: Callable[[StudyInputs], bool]
    build: Callable[[StudyInputs, str, Files], Leaf]

    @property
    def path(self) -> str:
        """Relative to the report."""
        return f"{PAGES}/{self.name}.html"


def _has_heads(inputs: StudyInputs) -> bool:
    return len(inputs.group.heads) > 0 and len(inputs.group.scores) > 0


STUDY_PAGES = (
    PageOfStudy("evidence", EVIDENCE_TITLE, has_evidence, evidence_leaf),
    PageOfStudy(
        "experiments", EXPERIMENTS_TITLE, lambda own: bool(own.experiments), experiments_leaf
    ),
    PageOfStudy("heads", "Attention heads", _has_heads, heads_leaf),
    PageOfStudy("layers", TITLE, has_layers, layers_leaf),
    PageOfStudy("encoding", ENCODING_TITLE, lambda own: bool(own.encoding), encoding_leaf),
    PageOfStudy("decoding", DECODING_TITLE, lambda own: bool(own.decoding), decoding_leaf),
    PageOfStudy("connectivity", NETWORKS_TITLE, lambda own: bool(own.networks), connect_leaf),
    PageOfStudy("alignment", ALIGNMENT_TITLE, lambda own: bool(own.alignment), align_leaf),
    PageOfStudy("information", "Information", lambda own: bool(own.information), information_leaf),
    PageOfStudy("sparsity", "Sparsity", lambda own: len(own.sparse.quality) > 0, sparse_leaf),
    PageOfStudy(
        "bottleneck", BOTTLENECK_TITLE, lambda own: len(own.bottleneck.claims) > 0, bottleneck_leaf
    ),
)
"""In the order of their links; the atlas stands before them."""


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
    if has_maps(inputs):
        links.append(Link(ATLAS_TITLE, ATLAS))
    links += [Link(page.title, page.path) for page in STUDY_PAGES if page.wanted(inputs)]
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
    leaves += [page.build(inputs, page.path, files) for page in STUDY_PAGES if page.wanted(inputs)]
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
