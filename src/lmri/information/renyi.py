"""Matrix-based Rényi information: of the spectrum of a kernel, not of a density.

It is not Shannon's information: the entropy of n samples lies in [0, log n] by the width of the
kernel alone, with no data processing inequality. At a tenth of the median distance it is log n for
almost anything in many dimensions, which the flag ``saturation`` tells.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.distance import pdist, squareform

from lmri.checks import check_range
from lmri.errors import EvidenceError
from lmri.information.estimate import Estimate
from lmri.information.samples import as_labels, as_samples, count_distinct, same_length

MOST_SAMPLES = 5000
"""Largest n: the eigenvalues of its kernel take a minute, and 200 MB."""


def matrix_renyi(
    x: np.ndarray,
    y: np.ndarray,
    *,
    width: float = 1.0,
    alpha: float = 1.01,
    labels: bool = False,
) -> Estimate:
    """Matrix-based information ``S(A) + S(B) - S(A o B / tr)``.

    ``S(A) = ln tr A^alpha / (1 - alpha)`` of ``A = K / tr K``, K a Gaussian kernel of samples (of
    labels: 1 where they are equal).

    Parameters
    ----------
    x : ndarray of shape (n,) or (n, d)
        Samples.
    y : ndarray of shape (n,) or (n, d)
        Samples, or labels.
    width : float
        Standard deviation of the kernel, in units of the median distance of each variable.
    alpha : float
        Order, near 1 but not 1.
    labels : bool
        Whether y are labels.

    Returns
    -------
    Estimate
        In nats (bits in the paper); ``saturation`` is S(A) as a share of log n.

    Raises
    ------
    EvidenceError
        If the samples do not vary, or are more than :data:`MOST_SAMPLES`.

    Notes
    -----
    Sánchez Giraldo, Rao and Príncipe 2015, IEEE Transactions on Information Theory 61:535.
    """
    if not width > 0:
        raise EvidenceError(f"The 'width' of matrix_renyi must be above 0. Got {width!r}.")
    if not alpha > 0 or alpha == 1:
        raise EvidenceError(
            f"The 'alpha' of matrix_renyi must be above 0 and not 1. Got {alpha!r}."
        )
    x = as_samples(x, "X of matrix_renyi")
    check_range(len(x), "n", "matrix_renyi", 2, MOST_SAMPLES, EvidenceError)
    same_length(len(x), len(y), "matrix_renyi")
    a = _kernel(x, width, "X")
    if labels:
        codes = as_labels(y, "matrix_renyi", len(x))
        b = (codes[:, None] == codes).astype(np.float64) / len(x)
    else:
        b = _kernel(as_samples(y, "Y of matrix_renyi"), width, "Y")
    joint = a * b
    own = _entropy(a, alpha)
    value = own + _entropy(b, alpha) - _entropy(joint / np.trace(joint), alpha)
    return Estimate(
        value=value,
        quantity="I(T;Y)" if labels else "I(X;Y)",
        estimator="matrix_renyi",
        family="matrix",
        channel={"kernel": "gaussian", "width_of_median": width, "alpha": alpha},
        n=len(x),
        n_distinct=count_distinct(x),
        d=(x.shape[1], 0 if labels else np.reshape(y, (len(x), -1)).shape[1]),
        ceiling=math.log(len(x)),
        saturation=own / math.log(len(x)),
    )


def _kernel(samples: np.ndarray, width: float, owner: str) -> np.ndarray:
    """Gaussian kernel with trace 1: (n, n)."""
    distances = pdist(samples)
    median = float(np.median(distances))
    if median == 0:
        raise EvidenceError(
            f"The samples {owner} of matrix_renyi must differ. At least half of their distances "
            "are 0, so that the kernel has no width: use an estimator for labels."
        )
    kernel = np.exp(-0.5 * squareform(distances / (width * median)) ** 2)
    return kernel / len(samples)


def _entropy(matrix: np.ndarray, alpha: float) -> float:
    values = np.linalg.eigvalsh(matrix)
    return float(math.log(np.sum(np.maximum(values, 0) ** alpha)) / (1 - alpha))
