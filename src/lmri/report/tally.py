"""``lmri tally``: how often each claim of some studies holds, failures included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lmri.errors import LmriError
from lmri.store import read_table
from lmri.store.claims import OUTCOMES

TALLIED = ("subject", "contrast", "claim", "outcome")
"""Columns of a table of claims that are counted."""

PLACES = ("validation/*/claims.parquet", "experiments/*/*/statements.parquet")
"""Where the claims of findings and of experiments stand in the folder of a study."""

GROUPED = ("study", "subjects", "contrast", "claim")

NUMBER = r"_\d+$"
"""At the end of a name: a seed."""


def tally_claims(studies: Sequence[Path]) -> pd.DataFrame:
    """Count what came of every claim of some studies.

    Parameters
    ----------
    studies : sequence of Path
        Folders of studies, ``results/<study>``.

    Returns
    -------
    DataFrame
        A row for each claim: ``study``, ``subjects`` (names of both without the number at their
        end: bases of several seeds count as one), ``contrast`` (or experiment), ``claim``, ``n``
        subjects (times phases and maps, where a study states a claim of several), and how many of
        them ``holds``, ``fails``, ``undecided`` and ``not testable``. In the order that they are
        read in.

    Raises
    ------
    LmriError
        If a study has no claims.
    """
    claims = pd.concat([_claims_of(study) for study in studies], ignore_index=True)
    claims["subjects"] = claims["subject"].str.replace(NUMBER, "", regex=True)
    claims["study"] = claims["study"].str.replace(NUMBER, "", regex=True)
    found = pd.crosstab([claims[name] for name in GROUPED], claims["outcome"])
    counts = found.reindex(columns=list(OUTCOMES), fill_value=0).rename_axis(columns=None)
    counts.insert(0, "n", counts.sum(axis=1))
    as_read = pd.MultiIndex.from_frame(claims[list(GROUPED)].drop_duplicates())
    return counts.loc[as_read].reset_index()


def tally_lines(counts: pd.DataFrame) -> list[str]:
    """Write the counts as a table in Markdown.

    Parameters
    ----------
    counts : DataFrame
        Of :func:`tally_claims`.

    Returns
    -------
    list of str
        Lines.
    """
    rows = [list(counts.columns), *counts.astype(str).to_numpy().tolist()]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    cells.insert(1, ["---"] * len(cells[0]))
    return [f"| {' | '.join(row)} |" for row in cells]


def _claims_of(study: Path) -> pd.DataFrame:
    paths = [path for place in PLACES for path in sorted(study.glob(place))]
    if not paths:
        raise LmriError(
            f"{study}: no claims; looked for {' and '.join(PLACES)}. Give folders of studies that "
            "were validated, as results/default."
        )
    tables = [read_table(path, TALLIED)[list(TALLIED)] for path in paths]
    return pd.concat(tables, ignore_index=True).assign(study=study.resolve().name)
