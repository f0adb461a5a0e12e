"""What the page of alignment reads, and the numbers behind it as rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.config import StudyConfig
from lmri.errors import StoreError
from lmri.report.layers.probes import read_reasons
from lmri.report.reader import Reader
from lmri.store import read_map

SOURCE = "analyses/align/<task>.<phase>.<quantity>.zarr"
FOLDER = "analyses/align"

SHARED = "all others"
"""What a subject is identified by in the shared space."""


@dataclass(frozen=True)
class Place:
    """Which comparison: of one task, phase and quantity."""

    task: str
    phase: str
    quantity: str


@dataclass(frozen=True)
class Alignment:
    """Comparisons of all subjects.

    Attributes
    ----------
    found : dict of Place to Dataset
        In the order of the study.
    left_out : dict of str to str
        Why something is not there.
    """

    found: dict[Place, xr.Dataset] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything to show, or to say of why there is not."""
        return bool(self.found or self.left_out)


def read_alignment(reader: Reader, config: StudyConfig) -> Alignment:
    """Read the comparisons of subjects; there are none of a study without quantities.

    Parameters
    ----------
    reader : Reader
        Notes what is missing.
    config : StudyConfig
        Which tasks, phases and quantities.

    Returns
    -------
    Alignment
        What there is.
    """
    if not config.aligned_tasks:
        return Alignment()
    left_out = reader.read("study", f"{FOLDER}/left_out.json", read_reasons, {})
    found = {}
    for task in config.aligned_tasks:
        for phase in config.align.phases or config.localise.phases:
            for quantity in config.align.quantities:
                name = f"{task}.{phase}.{quantity}"
                if name in left_out:
                    continue
                own = reader.read("study", f"{FOLDER}/{name}.zarr", _read, None)
                if own is not None:
                    found[Place(task, phase, quantity)] = own
    return Alignment(found, left_out)


def _read(path: Path) -> xr.Dataset:
    dataset = read_map(path)
    for name in ("layer_of", "subject", "other", "depth"):
        if name not in dataset.coords and name not in dataset.dims:
            raise StoreError(f"{path}: has no '{name}'. Run the stage 'align' again.")
    return dataset


def by_whom(by: str, subjects: int) -> str:
    """Name what identifies a subject; of two, all others are one.

    Parameters
    ----------
    by : str
        From :func:`identification_frame`.
    subjects : int
        Number of subjects.

    Returns
    -------
    str
        To stand behind "by".
    """
    return "the other in the shared space" if by == SHARED and subjects == 2 else by


def identification_frame(alignment: Alignment) -> pd.DataFrame:
    """Tell each identification in a row.

    Parameters
    ----------
    alignment : Alignment
        All comparisons.

    Returns
    -------
    DataFrame
        ``task``, ``phase``, ``quantity``, ``subject`` (whose stimulus it is), ``by`` (by whose
        activity), ``depth``, ``layer``, ``n``, and of ``two_way``, ``within``, ``top_1`` and
        ``top_5`` the value, ``_low``, ``_high`` (of chance) and ``_p``.
    """
    rows = []
    for place, own in alignment.found.items():
        if "identification" not in own:
            continue
        names = [str(name) for name in own["subject"].values]
        for depth in own["depth"].values:
            at = own.sel(depth=depth)
            for seen in names:
                for by in (*(name for name in names if name != seen), SHARED):
                    if by == SHARED:
                        prefix, cell = "shared_identification", at.sel(subject=seen)
                    else:
                        prefix, cell = "identification", at.sel(subject=by, other=seen)
                    row = {**vars(place), "subject": seen, "by": by, "depth": int(depth)}
                    row |= {
                        "layer": int(at["layer_of"].sel(subject=seen)),
                        "n": int(own.attrs["n_score"]),
                    }
                    for score in own["score"].values:
                        value = cell[prefix].sel(score=score)
                        null = cell[f"{prefix}_null"].sel(score=score)
                        row |= {
                            str(score): float(value),
                            f"{score}_low": float(null.sel(null="low")),
                            f"{score}_high": float(null.sel(null="high")),
                            f"{score}_p": float(cell[f"{prefix}_p"].sel(score=score)),
                        }
                    rows.append(row)
    return pd.DataFrame(rows)


def ceiling_frame(alignment: Alignment) -> pd.DataFrame:
    """Tell what all subjects have in common in their shared space, by task and depth.

    Parameters
    ----------
    alignment : Alignment
        All comparisons.

    Returns
    -------
    DataFrame
        ``task``, ``phase``, ``quantity``, ``depth``, ``layers`` (of all subjects), ``subjects``
        and ``n`` (numbers of them and of trials), ``ceiling`` with ``low``, ``high`` (of its null)
        and ``p``, and ``share`` (of all activity).
    """
    rows = []
    for place, own in alignment.found.items():
        if "shared_ceiling" not in own:
            continue
        for depth in own["depth"].values:
            at = own.sel(depth=depth)
            low, _, high = at["shared_ceiling_null"].values.tolist()
            rows.append(
                {
                    **vars(place),
                    "depth": int(depth),
                    "layers": ", ".join(map(str, sorted(set(at["layer_of"].values.tolist())))),
                    "subjects": own.sizes["subject"],
                    "n": int(own.attrs["n_score"]),
                    "ceiling": float(at["shared_ceiling"]),
                    "low": low,
                    "high": high,
                    "p": float(at["shared_ceiling_p"]),
                    "share": float(at["shared_ceiling_share"]),
                }
            )
    return pd.DataFrame(rows)


def geometry_frame(alignment: Alignment) -> pd.DataFrame:
    """Tell CKA, RSA and Procrustes of each pair in layers of equal depth."""
    rows = []
    for place, own in alignment.found.items():
        names = [str(name) for name in own["subject"].values]
        for (a, b), depth in (
            (pair, int(d)) for pair in combinations(names, 2) for d in own["depth"].values
        ):
            layers = [int(own["layer_of"].sel(depth=depth, subject=name)) for name in (a, b)]
            cell = own.sel(subject=a, other=b)
            row = {**vars(place), "subject": a, "other": b, "depth": depth}
            row |= {"layer": layers[0], "other_layer": layers[1]}
            at = {"layer": layers[0], "other_layer": layers[1]}
            for name in ("cka", "rsa", "rsa_low", "rsa_high", "rsa_p"):
                row[name] = float(cell[name].sel(at)) if name in own else np.nan
            if "cka_null" in own:
                row["cka_null_low"], _, row["cka_null_high"] = (
                    cell["cka_null"].sel(depth=depth).values.tolist()
                )
                row["cka_p"] = float(cell["cka_p"].sel(depth=depth))
            if "procrustes" in own:
                row["procrustes"] = float(own["procrustes"].sel(subject=a, other=b, depth=depth))
            rows.append(row)
    return pd.DataFrame(rows)


def transfer_frame(alignment: Alignment) -> pd.DataFrame:
    """Tell the accuracy of every decoder of a new subject, over its draws of trials."""
    rows = []
    for place, own in alignment.found.items():
        if "accuracy" not in own:
            continue
        accuracy = own["accuracy"]
        for subject in accuracy["subject"].values:
            for depth in accuracy["depth"].values:
                for count in accuracy["count"].values:
                    for arm in accuracy["arm"].values:
                        drawn = accuracy.sel(subject=subject, depth=depth, count=count, arm=arm)
                        values = drawn.values[np.isfinite(drawn.values)]
                        if not len(values):
                            continue
                        low, high = np.quantile(values, (0.05, 0.95))
                        rows.append(
                            {
                                **vars(place),
                                "subject": str(subject),
                                "depth": int(depth),
                                "layer": int(own["layer_of"].sel(depth=depth, subject=subject)),
                                "trials": int(count),
                                "arm": str(arm),
                                "accuracy": float(values.mean()),
                                "low": float(low),
                                "high": float(high),
                                "classes": int(own.attrs["classes"]),
                                "n": int(own.attrs["n_score"]),
                            }
                        )
    return pd.DataFrame(rows)
