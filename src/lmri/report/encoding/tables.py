"""What the page of encoding reads, and the numbers behind it as rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.config import StudyConfig
from lmri.errors import StoreError
from lmri.report.layers.probes import read_reasons
from lmri.report.reader import Reader
from lmri.store import read_map, read_table

NEEDED = ("variance", "r2", "r", "nuisance", "unique", "alone")
"""Variables that are always there."""

USE = (
    *("subject", "phase", "layer", "band", "role", "rank", "explained", "share", "divergence"),
    *("changed", "random_mean", "random_most", "random_share", "overlap", "p", "draws", "n"),
)

ALL = "all"
"""What is tested together: all bands of interest."""

ALPHA = 0.05


@dataclass(frozen=True)
class Encoding:
    """Encoding of all subjects.

    Attributes
    ----------
    found : dict
        Datasets by (task, kind, level) and subject.
    use : dict of str to DataFrame
        What ablating subspaces does, by task, of all subjects.
    left_out : dict of str to dict of str to str
        By subject: why something is not there.
    """

    found: dict[tuple[str, str, str], dict[str, xr.Dataset]] = field(default_factory=dict)
    use: dict[str, pd.DataFrame] = field(default_factory=dict)
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything to show, or to say of why there is not."""
        return bool(self.found or self.use or any(self.left_out.values()))


def read_encoding(reader: Reader, config: StudyConfig) -> Encoding:
    """Read the encoding of all subjects; there is none of a study without tasks for it.

    Parameters
    ----------
    reader : Reader
        Notes what is missing.
    config : StudyConfig
        Which subjects, tasks, kinds and levels.

    Returns
    -------
    Encoding
        What there is.
    """
    encoding, options = Encoding(), config.encode
    for subject in config.subjects if config.encoded_tasks else ():
        folder = f"analyses/encode/{subject}"
        reasons = reader.read(subject, f"{folder}/left_out.json", read_reasons, {})
        encoding.left_out[subject] = reasons
        for task in config.encoded_tasks:
            for level in options.levels:
                for kind in options.kinds:
                    path = f"{folder}/{task}.{kind}.{level}.zarr"
                    if _explained(reader, path, reasons, f"{task}.{kind}.{level}."):
                        continue
                    own = reader.read(subject, path, _read, None)
                    if own is not None:
                        encoding.found.setdefault((task, kind, level), {})[subject] = own
            path = f"{folder}/{task}.use.parquet"
            if options.subspace_draws and not _explained(reader, path, reasons, f"{task}.use"):
                own = reader.read(subject, path, lambda at: read_table(at, USE), None)
                known = encoding.use.get(task)
                if own is not None:
                    both = [own] if known is None else [known, own]
                    encoding.use[task] = pd.concat(both, ignore_index=True)
    return encoding


def layer_frame(encoding: Encoding) -> pd.DataFrame:
    """Sum the units of every layer up, weighted by their variance.

    Parameters
    ----------
    encoding : Encoding
        What was read.

    Returns
    -------
    DataFrame
        One row per subject, task, kind, level, phase, layer and band of interest, and one of
        ``nuisance`` bands together and of ``all`` bands. Shares of the variance of the layer are
        ``r2`` (of the model of nuisance or of all bands, in these two rows), ``unique`` (of bands
        of interest) and ``alone`` (beyond nuisance; not of nuisance). ``units`` that vary,
        ``significant`` (with ``p_max`` at most :data:`ALPHA`), ``best`` (largest held-out R² of a
        unit), ``n``, and ``ceiling`` (median of units, NaN without one).
    """
    rows: list[dict] = []
    for (task, kind, level), subjects in encoding.found.items():
        for subject, own in subjects.items():
            about = json.loads(own.attrs["about"])
            for phase in own["phase"].values:
                labels = {"subject": subject, "task": task, "kind": kind, "level": level}
                labels |= {"phase": str(phase), "n": about[str(phase)]["n"]}
                rows += _layer_rows(own.sel(phase=phase), labels)
    return pd.DataFrame(rows)


def _layer_rows(own: xr.Dataset, labels: dict) -> list[dict]:
    units = [dim for dim in own["r2"].dims if dim != "layer"]
    weight = own["variance"].where(np.isfinite(own["r2"]))
    total = weight.sum(units) if units else weight

    def of_layer(values: xr.DataArray) -> xr.DataArray:
        weighted = (values * weight).where(np.isfinite(weight))
        summed = weighted.sum(units) if units else weighted
        return summed / total.where(total > 0)

    nuisance, everything = of_layer(own["nuisance"]), of_layer(own["r2"])
    shares = {
        "nuisance": {"r2": nuisance},
        ALL: {"r2": everything, "alone": everything - nuisance},
    }
    bands = [str(name) for name in own["interest"].values]
    for name in bands:
        if np.isfinite(own["unique"].sel(interest=name)).any():
            shares[name] = {
                part: of_layer(own[part].sel(interest=name)) for part in ("unique", "alone")
            }
    varying = np.isfinite(weight).sum(units) if units else np.isfinite(weight)
    best = own["r2"].max(units) if units else own["r2"]
    rows = []
    for place, layer in enumerate(own["layer"].values):
        for name, parts in shares.items():
            rows.append(
                {
                    **labels,
                    "layer": int(layer),
                    "band": name,
                    **{
                        part: float(parts[part][place]) if part in parts else np.nan
                        for part in ("r2", "unique", "alone")
                    },
                    "units": int(varying[place]),
                    "significant": _significant(own, name, place, units),
                    "best": float(best[place]),
                    "ceiling": _median(own, place),
                }
            )
    return rows


def _significant(own: xr.Dataset, band: str, place: int, units: list) -> float:
    if "p_max" not in own or band not in own["tested"].values:
        return np.nan
    p = own["p_max"].sel(tested=band).isel(layer=place)
    return float((p <= ALPHA).sum()) if np.isfinite(p).any() else np.nan


def _median(own: xr.Dataset, place: int) -> float:
    values = own["explainable"].isel(layer=place).values if "explainable" in own else np.nan
    known = np.asarray(values)[np.isfinite(values)]
    return float(np.median(known)) if known.size else np.nan


def _read(path: Path) -> xr.Dataset:
    dataset = read_map(path)
    missing = [name for name in NEEDED if name not in dataset]
    if missing or "about" not in dataset.attrs:
        raise StoreError(f"{path}: has no '{(missing or ['about'])[0]}'. Encode again.")
    return dataset


def _explained(reader: Reader, path: str, reasons: dict[str, str], prefix: str) -> bool:
    """Whether a file is not there, and a reason says why."""
    return not (reader.study / path).exists() and any(name.startswith(prefix) for name in reasons)
