"""Ridge of many units, by us out of a store and by himalaya in memory.

Run in a process of its own: the most memory that it ever held is what it reports.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import zarr

from benchmarks.memory import peak_memory

ALPHAS = 10.0 ** np.arange(-2, 8)
FOLDS = 5
CARRIERS = 250
SHARE = 0.3
"""Variance of a unit that follows from the features."""

BATCH = 2500
"""Units that himalaya is given at a time, when it is called in batches."""


def write(folder: Path, rows: int, features: int, units: int) -> None:
    """Write features and planted units.

    Parameters
    ----------
    folder : Path
        Gets ``X.npy``, ``carrier.npy``, ``cell.npy`` and ``Y.zarr``.
    rows, features, units : int
        Sizes.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, features)).astype(np.float32)
    np.save(folder / "X.npy", X)
    np.save(folder / "carrier.npy", np.arange(rows) * min(CARRIERS, rows // 4) // rows)
    # himalaya's side is given the folds, so that it need not import us.
    np.save(folder / "cell.npy", _folds(folder).cell)
    chunks = (min(rows, 1024), min(units, 512))
    store = zarr.create_array(
        folder / "Y.zarr", shape=(rows, units), chunks=chunks, dtype=np.float32
    )
    for start in range(0, units, BATCH):
        width = min(BATCH, units - start)
        signal = X @ rng.normal(size=(features, width)).astype(np.float32)
        signal *= np.sqrt(SHARE / (1 - SHARE) / features)
        store[:, start : start + width] = signal + rng.normal(size=signal.shape)


def ours(folder: Path) -> dict[str, np.ndarray]:
    """Choose penalties and fit, a block of units at a time out of the store.

    Parameters
    ----------
    folder : Path
        See :func:`write`.

    Returns
    -------
    dict of str to ndarray
        ``alpha`` (n_units,) and ``weights`` (n_features, n_units) of the features as they are.
    """
    from lmri.encode.activity import BLOCK_BYTES
    from lmri.encode.moments import Moments, Trained
    from lmri.encode.ridge import choose, fit, search_of

    X, folds = np.load(folder / "X.npy").astype(np.float64), _folds(folder)
    store = zarr.open_array(folder / "Y.zarr", mode="r")
    search = search_of(1, 1, 0, ALPHAS)
    step = BLOCK_BYTES // (8 * len(X))
    alpha = np.empty(store.shape[1])
    weights = np.empty((X.shape[1], store.shape[1]), dtype=np.float32)
    everywhere = np.arange(len(folds.apart))
    for start in range(0, store.shape[1], step):
        own = slice(start, min(start + step, store.shape[1]))
        Y = store[:, own]
        moments = Moments(len(folds.apart), X.shape[1], Y.shape[1])
        moments.add(X, Y, folds.cell)
        chosen = choose(moments, folds, everywhere, search, [X.shape[1]])
        trained = Trained.of(moments, everywhere)
        made = fit(trained, chosen, search, [X.shape[1]])
        alpha[own], weights[:, own] = search.alphas[chosen.alpha], made / trained.scale[:, None]
    return {"alpha": alpha, "weights": weights}


def theirs(folder: Path) -> dict[str, np.ndarray]:
    """Call himalaya on arrays in memory, as :func:`ours`."""
    from himalaya.ridge import RidgeCV

    X, Y = np.load(folder / "X.npy"), zarr.open_array(folder / "Y.zarr", mode="r")[:]
    model = RidgeCV(alphas=ALPHAS, fit_intercept=True, cv=_split(folder)).fit(X, Y)
    return {"alpha": model.best_alphas_, "weights": model.coef_}


def batches(folder: Path) -> dict[str, np.ndarray]:
    """Call himalaya for one batch of units after another out of the store."""
    from himalaya.ridge import RidgeCV

    X, store = np.load(folder / "X.npy"), zarr.open_array(folder / "Y.zarr", mode="r")
    found = []
    for start in range(0, store.shape[1], BATCH):
        model = RidgeCV(alphas=ALPHAS, fit_intercept=True, cv=_split(folder))
        found.append(model.fit(X, store[:, start : start + BATCH]))
    return {
        "alpha": np.concatenate([own.best_alphas_ for own in found]),
        "weights": np.concatenate([own.coef_ for own in found], axis=1),
    }


SIDES = {"ours": ours, "theirs": theirs, "batches": batches}


def _folds(folder: Path):
    import pandas as pd

    from lmri.encode.folds import carrier_folds

    carriers = pd.DataFrame({"carrier_item": np.load(folder / "carrier.npy")})
    return carrier_folds(carriers, FOLDS, 0, "the benchmark")


def _split(folder: Path):
    from sklearn.model_selection import PredefinedSplit

    return PredefinedSplit(np.load(folder / "cell.npy"))


def main(arguments: list[str]) -> None:
    """Run one side and print its cost; keep what it found beside the data."""
    side, folder = arguments[0], Path(arguments[1])
    if side == "write":
        write(folder, *map(int, arguments[2:]))
        return
    SIDES[side](folder.parent / "small")  # imports, and the first call of every library
    start = time.process_time()
    found = SIDES[side](folder)
    seconds = time.process_time() - start
    print(json.dumps({"seconds": seconds, "peak": peak_memory()}))
    np.savez(folder / f"{side}.npz", **found)


if __name__ == "__main__":
    main(sys.argv[1:])
