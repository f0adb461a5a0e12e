"""Variance that repeats of a stimulus have in common, corrected for what noise alone would give.

One-way analysis of variance over ``k`` stimuli with ``R_i`` repeats::

    signal = (MSB - MSW) / n0,   total = signal + MSW,   n0 = (N - Σ R_i² / N) / (k - 1)

For equal numbers of repeats ``signal / total`` is the corrected explainable variance of encoding
studies, ``EV - (1 - EV) / (R - 1)``: the largest R² of a single response.

Source: Schoppe et al., Measuring the performance of neural models (2016).
"""

from __future__ import annotations

import numpy as np


def repeat_variance(values: np.ndarray, stimulus: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the variance that repeats have in common, and that of one repeat.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
        One row each repeat.
    stimulus : ndarray of shape (n_rows,), int64
        Stimulus of each row.

    Returns
    -------
    signal, total : ndarray of shape (n_columns,), float64
        0 on average under noise, so that estimates may be below; total is not negative.
    """
    codes = np.unique(stimulus, return_inverse=True)[1]
    own = values.astype(np.float64)
    own -= own.mean(axis=0)
    repeats = np.bincount(codes).astype(np.float64)
    n, k = repeats.sum(), len(repeats)
    sums = np.zeros((k, own.shape[1]))
    np.add.at(sums, codes, own)
    between = (sums**2 / repeats[:, None]).sum(axis=0)
    within = ((own**2).sum(axis=0) - between) / (n - k)
    signal = (between / (k - 1) - within) / ((n - (repeats**2).sum() / n) / (k - 1))
    return signal, signal + within
