"""Entropy of the activity of units: over samples, unit by unit, and over units, sample by sample.

Over samples a unit's values are put in bins whose edges are quantiles of the different values of a
*reference* set (so that the many zeros of a rectifier fill one bin and do not swallow the others).
Of the reference itself the entropy is ``log2 B`` by construction: it says something only of other
samples, such as another condition, split or checkpoint.
"""

from __future__ import annotations

from copy import copy

import numpy as np
import xarray as xr

from lmri.checks import check_choice, check_range
from lmri.errors import EvidenceError

BINS = 30

PER_BIN = 10
"""Samples for each bin below which an entropy is flagged ``few_samples``."""

NORMALISATIONS = ("share", "qvlm_compat")


class ActivationHistogram:
    """Histograms of units over samples that come in chunks, with the edges of a reference.

    Memory is that of the counts, units × bins, however many samples there are.

    Parameters
    ----------
    reference : ndarray of shape (n_samples, n_units)
        Values that the edges are quantiles of, as many as fit in memory.
    bins : int
        Bins of each unit, at least 2. Units with fewer different values have as many as these.

    Raises
    ------
    EvidenceError
        If the reference has no sample, or a value is not finite.
    """

    def __init__(self, reference: np.ndarray, bins: int = BINS) -> None:
        check_range(bins, "bins", "the activation entropy", low=2, error=EvidenceError)
        reference = _finite(reference)
        if not len(reference):
            raise EvidenceError("The reference of the activation entropy must have samples.")
        self.bins = bins
        self.samples = 0
        # Inner edges; those that a unit does not need are infinite, so that nothing is above them.
        self._edges = np.stack([_edges(values, bins) for values in reference.T])
        self._used = 1 + np.isfinite(self._edges).sum(axis=1)
        self._counts = np.zeros((len(self._edges), bins), dtype=np.int64)

    def fresh(self) -> ActivationHistogram:
        """Make a histogram with the same edges and no samples."""
        other = copy(self)
        other.samples, other._counts = 0, np.zeros_like(self._counts)
        return other

    def add(self, samples: np.ndarray) -> None:
        """Count samples.

        Parameters
        ----------
        samples : ndarray of shape (n_samples, n_units)
            Values of the same units. Those outside the reference's range count in its end bins.

        Raises
        ------
        EvidenceError
            If there are other units, or a value is not finite.
        """
        samples = _finite(samples)
        if samples.shape[1] != len(self._edges):
            raise EvidenceError(
                f"Samples of the activation entropy must be of the {len(self._edges)} units of its "
                f"reference. Got {samples.shape[1]}."
            )
        self.samples += len(samples)
        for unit, edges in enumerate(self._edges):
            places = np.searchsorted(edges, samples[:, unit], side="right")
            self._counts[unit] += np.bincount(places, minlength=self.bins)

    def entropy(self) -> xr.Dataset:
        """Entropy of every unit.

        Returns
        -------
        Dataset
            Over unit: ``entropy``, plug-in, in bits; ``corrected``, with the term of Miller and
            Madow, ``(occupied - 1) / (2 n ln 2)``; ``relative``, the plug-in divided by the
            logarithm of the unit's bins; ``flags``: ``constant`` (one value in the reference, so
            one bin), ``few_samples`` (below :data:`PER_BIN` for each bin). Attributes ``samples``
            and ``bins``.

        Raises
        ------
        EvidenceError
            If no sample was counted.
        """
        if not self.samples:
            raise EvidenceError("An activation entropy must have samples. None were counted.")
        shares = self._counts / self.samples
        logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
        entropy = np.abs((shares * logs).sum(axis=1))
        occupied = (self._counts > 0).sum(axis=1)
        ceiling = np.log2(self._used)
        relative = np.divide(entropy, ceiling, out=np.full_like(entropy, np.nan), where=ceiling > 0)
        flags = np.full(len(entropy), "", dtype="U11")
        flags[self.samples < PER_BIN * self._used] = "few_samples"
        flags[self._used == 1] = "constant"
        return xr.Dataset(
            {
                "entropy": ("unit", entropy),
                "corrected": ("unit", entropy + (occupied - 1) / (2 * self.samples * np.log(2))),
                "relative": ("unit", relative),
                "flags": ("unit", flags),
            },
            attrs={"samples": self.samples, "bins": self.bins, "units": "bit"},
        )


def spread_over_units(samples: np.ndarray, normalisation: str = "share") -> np.ndarray:
    """Entropy of how a sample's activity is spread over units: ``-Σ_i a_i ln a_i``.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, n_units)
        Activity; its magnitudes count.
    normalisation : str
        ``share``: ``a = |x| / Σ |x|``, from 0 (one unit) to ``ln n_units``. ``qvlm_compat``:
        ``a = |x| / ||x||₂`` and ``ln(a + 1e-7)``, as released with Q-VLM (NeurIPS 2024);
        these are no shares and the result is no entropy.

    Returns
    -------
    ndarray of shape (n_samples,), float64
        In nats; NaN for a sample that is 0 in every unit.

    Raises
    ------
    EvidenceError
        If a value is not finite, or the normalisation is neither.
    """
    check_choice(
        normalisation, NORMALISATIONS, "normalisation", "the activation entropy", EvidenceError
    )
    sizes = np.abs(_finite(samples))
    order, offset = (1, 0.0) if normalisation == "share" else (2, 1e-7)
    total = np.linalg.norm(sizes, order, axis=1, keepdims=True)
    shares = np.divide(sizes, total, out=np.full_like(sizes, np.nan), where=total > 0)
    logs = np.log(shares + offset, out=np.zeros_like(shares), where=shares + offset > 0)
    return -(shares * logs).sum(axis=1)


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Inner edges of a unit: quantiles of its different values, array of shape (bins - 1,)."""
    unique = np.unique(values)
    inner = np.unique(unique[np.arange(1, bins) * len(unique) // bins])
    inner = inner[inner > unique[0]]  # below the first there is nothing
    edges = np.full(bins - 1, np.inf)
    edges[: len(inner)] = inner
    return edges


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise EvidenceError(
            "Values of the activation entropy must be finite, as (samples, units). Got the shape "
            f"{values.shape}{'' if np.isfinite(values).all() else ', some not finite'}."
        )
    return values
