"""What estimators of information cost: run in processes of its own.

``ksg D ROUNDS`` times ours beside scikit-learn's (D = 1) or a tree's on the same samples, in turn;
``kernel N D`` the bounds of Kolchinsky and Tracey beside a matrix product of the same precision;
``permutation N D ROUNDS`` nulls beside single estimates. The last line that each prints is JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma

from benchmarks.memory import peak_memory
from lmri.information.gaussian import gaussian, gaussian_copula, gaussian_with_null
from lmri.information.kernel import kolchinsky_tracey
from lmri.information.neighbours import ksg

SAMPLES = 10_000
NEIGHBOURS = 3
DRAWS = 200


def pair(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Make Gaussian variables, each dimension of which correlates by .6."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d))
    return x, 0.6 * x + 0.8 * rng.normal(size=(n, d))


def tree_ksg(x: np.ndarray, y: np.ndarray) -> float:
    """First estimator of Kraskov with trees in all three spaces, as in NPEET."""
    joint = np.concatenate([x, y], axis=1)
    distances = cKDTree(joint).query(joint, k=NEIGHBOURS + 1, p=np.inf)[0][:, -1]
    nearer = np.nextafter(distances, 0)
    counts = [
        cKDTree(own).query_ball_point(own, nearer, p=np.inf, return_length=True) for own in (x, y)
    ]
    return float(digamma(NEIGHBOURS) + digamma(len(x)) - np.mean(digamma(counts).sum(axis=0)))


def sklearn_ksg(x: np.ndarray, y: np.ndarray) -> float:
    """First estimator of Kraskov as scikit-learn has it, for one pair."""
    from sklearn.feature_selection import mutual_info_regression

    found = mutual_info_regression(x, y[:, 0], n_neighbors=NEIGHBOURS, random_state=0)
    return float(found[0])


def compare_ksg(d: int, rounds: int) -> dict[str, object]:
    """Time ours and the other, in CPU seconds.

    Parameters
    ----------
    d : int
        Dimensions of each variable; 1 compares with scikit-learn.
    rounds : int
        Rounds of ours; a tree in many dimensions, which takes a minute, runs once.

    Returns
    -------
    dict
        Seconds of every round by side, and the difference in value.
    """
    # scikit-learn brings each variable to unit variance.
    x, y = (own / own.std(axis=0) for own in pair(SAMPLES, d))
    other = sklearn_ksg if d == 1 else tree_ksg
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(rounds):
        ours = _timed(lambda: ksg(x, y, k=NEIGHBOURS).value, seconds["ours"])
        if d == 1 or number == 0:
            theirs = _timed(lambda: other(x, y), seconds["theirs"])
    return {"seconds": seconds, "difference": abs(ours - theirs)}


def bound(n: int, d: int) -> dict[str, float]:
    """Time the bounds at one noise beside a product of the same multiplications.

    Parameters
    ----------
    n, d : int
        Samples and dimensions.

    Returns
    -------
    dict
        CPU ``seconds``; ``product``, those of multiplying every pair of blocks that the bounds
        need and nothing else; ``peak`` in MB.
    """
    t = np.random.default_rng(0).normal(size=(n, d))
    spent: list[float] = []
    for _ in range(2):
        found = _timed(lambda: kolchinsky_tracey(t, noise=[1.0]), spent)
    if not all(np.isfinite(own.value) for own in found):
        raise RuntimeError("a bound is not finite")
    peak = peak_memory()
    rows, product = t[: min(n, 2048)], []
    for _ in range(5):
        _timed(lambda: rows @ rows.T, product)
    half = n * n / 2 / len(rows) ** 2
    return {"seconds": min(spent), "product": min(product) * half, "peak": peak}


def permutation(n: int, d: int, rounds: int) -> dict[str, dict[str, float]]:
    """Time single estimates and nulls of 200 permutations, in turn.

    Parameters
    ----------
    n, d : int
        Samples, and dimensions of each variable.
    rounds : int
        Rounds; the best counts.

    Returns
    -------
    dict
        For either estimator CPU seconds of ``one`` estimate and of the ``null`` with its estimate.
    """
    x, y = pair(n, d)
    found = {}
    for name, estimate in (("gaussian", gaussian), ("copula", gaussian_copula)):
        one: list[float] = []
        null: list[float] = []
        for _ in range(rounds):
            # One estimate may take less than the clock can tell: the mean of several.
            _timed(lambda estimate=estimate: [estimate(x, y) for _ in range(20)], one)
            _timed(
                lambda name=name: gaussian_with_null(x, y, copula=name == "copula", draws=DRAWS),
                null,
            )
        found[name] = {"one": min(one) / 20, "null": min(null)}
    return found


def _timed(run: Callable[[], object], seconds: list[float]) -> object:
    start = time.process_time()
    result = run()
    seconds.append(time.process_time() - start)
    return result


def main() -> None:
    """Read the arguments, see the module."""
    command, *sizes = sys.argv[1:]
    measured = {"ksg": compare_ksg, "kernel": bound, "permutation": permutation}[command]
    print(json.dumps(measured(*map(int, sizes))))


if __name__ == "__main__":
    main()
