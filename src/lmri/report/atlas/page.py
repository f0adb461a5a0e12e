"""The page of the atlas. It is the only one with scripts, and its policy names each by its hash."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from markupsafe import Markup

from lmri.report import assets
from lmri.report.atlas.data import AtlasMap, atlas_json

TITLE = "Atlas"
PATH = "pages/atlas.html"

SCRIPTS = ("plotly-cartesian-4.1.1.min.js", "atlas.js")
"""The plotting library (plotly.js, MIT licence, its bundle for plots with axes) and the page's."""


@dataclass(frozen=True)
class Atlas:
    """The page of the atlas.

    Attributes
    ----------
    study : str
        Name of the study.
    path : str
        Relative to the report.
    data : Markup
        The maps as JSON that cannot end its element.
    scripts : list of Markup
        Sources of the scripts.
    subjects, maps : int
        Numbers of them.
    """

    study: str
    path: str
    data: Markup
    scripts: list[Markup]
    subjects: int
    maps: int

    @property
    def policy(self) -> str:
        """Sources that may run: each script by its hash."""
        return " ".join(f"'sha256-{_hash(script)}'" for script in self.scripts)


def atlas_page(study: str, maps: Sequence[AtlasMap]) -> Atlas:
    """Put the page together.

    Parameters
    ----------
    study : str
        Name of the study.
    maps : sequence of AtlasMap
        The maps; not empty.

    Returns
    -------
    Atlas
        The page.
    """
    return Atlas(
        study=study,
        path=PATH,
        data=Markup(atlas_json(list(maps))),
        scripts=[_script(name) for name in SCRIPTS],
        subjects=len({own.subject for own in maps}),
        maps=len(maps),
    )


def _script(name: str) -> Markup:
    source = resources.files(assets).joinpath(name).read_text(encoding="utf-8")
    if "</script" in source.lower():
        raise ValueError(f"{name} must not end its element")
    return Markup(source)


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
