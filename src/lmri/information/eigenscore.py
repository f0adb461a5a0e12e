"""EigenScore: how far several answers to one question spread, as a measure of hallucination.

``1 / K Σ ln λ_i(Σ + α I)`` with ``Σ = Z J_d Zᵀ``, the K × K products of K sentence embeddings, each
centred over its d features (Chen et al. 2024, INSIDE, arXiv:2402.03744). High where the answers
differ in content. The released code takes the decadic logarithm of a covariance divided by d - 1:
its numbers are others.

The efficient variant (SenD, arXiv:2410.15460) approximates the same number by Chebyshev polynomials
and random probes. Its released code does not: its coefficients integrate ``cos(m x)`` in place of
``cos(m arccos x)``, leave out the constant term, map the spectrum to [0, 1] instead of [-1, 1], and
lose the scale of the embeddings. With the few answers of a question the exact score is the faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.polynomial import chebyshev

from lmri.checks import check_choice
from lmri.errors import EvidenceError
from lmri.store import Recording

ALPHA = 1e-3
"""Added to every eigenvalue: answers that are alike have a determinant of 0."""

CONVERGED = 0.005
"""Largest error of the polynomial, in nats per answer, that is not flagged."""

MEMORY = 2**28
"""Bytes of embeddings held at once."""

EMBEDDINGS = ("last", "mean_and_last")
"""State of the last token (INSIDE), or its mean with the mean over all tokens (SenD)."""


def eigenscore(embeddings: np.ndarray, alpha: float = ALPHA) -> float:
    """Score the spread of several answers to one question, exactly.

    Parameters
    ----------
    embeddings : ndarray of shape (answers, features)
        Sentence embeddings of the answers.
    alpha : float
        Added to every eigenvalue; not negative.

    Returns
    -------
    float
        In nats per answer. Scaling the embeddings by c adds ``2 ln c`` where alpha is negligible.

    Raises
    ------
    EvidenceError
        If there are fewer than two answers, one is not finite, or alpha is negative.
    """
    return log_determinant_score(_products(embeddings), alpha)


def log_determinant_score(matrix: np.ndarray, alpha: float = ALPHA) -> float:
    """``1 / K ln det(M + α I)`` of a symmetric matrix; -inf where it is singular.

    Parameters
    ----------
    matrix : ndarray of shape (K, K)
        Symmetric, without negative eigenvalues.
    alpha : float
        Added to every eigenvalue; not negative.

    Returns
    -------
    float
        In nats.

    Raises
    ------
    EvidenceError
        If alpha is negative.
    """
    _check_alpha(alpha)
    eigenvalues = np.clip(np.linalg.eigvalsh(matrix), 0.0, None) + alpha
    with np.errstate(divide="ignore"):
        return float(np.log(eigenvalues).mean())


@dataclass(frozen=True)
class Approximation:
    """An approximate score.

    Attributes
    ----------
    value : float
        In nats per answer.
    error : float
        Standard error over probes.
    truncation : float
        Largest error of the polynomial over the interval, in nats.
    flags : tuple of str
        ``unconverged`` if the truncation is above :data:`CONVERGED`: raise the degree or alpha.
    """

    value: float
    error: float
    truncation: float
    flags: tuple[str, ...]


def efficient_eigenscore(
    embeddings: np.ndarray,
    alpha: float = ALPHA,
    *,
    degree: int = 60,
    probes: int = 200,
    seed: int = 0,
) -> Approximation:
    """Approximate :func:`eigenscore` without an eigendecomposition.

    ``1 / K · mean over probes of zᵀ p(B) z`` with p the Chebyshev interpolant of the logarithm on
    an interval [a, b] that holds the spectrum of ``M = Σ + α I``, and ``B = (2 M - (b + a) I) /
    (b - a)``. The probes are of ones and minus ones. The interval ends at the Frobenius norm of Σ
    or its largest row sum of magnitudes, the lesser: neither is below the largest eigenvalue.

    Parameters
    ----------
    embeddings : ndarray of shape (answers, features)
        Sentence embeddings.
    alpha : float
        Added to every eigenvalue; above 0.
    degree : int
        Of the polynomial. It needs about the root of ``b / a``.
    probes : int
        Random probes, at least 2.
    seed : int
        Of the probes.

    Returns
    -------
    Approximation
        The score with both of its errors.

    Raises
    ------
    EvidenceError
        As :func:`eigenscore`, or if alpha is 0, the degree below 1 or the probes fewer than 2.
    """
    matrix = _products(embeddings)
    if not alpha > 0 or degree < 1 or probes < 2:
        raise EvidenceError(
            "The efficient EigenScore must have an 'alpha' above 0, a 'degree' of at least 1 and "
            f"at least 2 'probes'. Got {alpha!r}, {degree!r} and {probes!r}."
        )
    largest = min(np.linalg.norm(matrix), np.linalg.norm(matrix, np.inf))
    low, high = alpha, alpha + max(largest, alpha)
    points = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    coefficients = chebyshev.chebfit(points, _log_on(points, low, high), degree)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(len(matrix), probes))
    shifted = matrix + alpha * np.eye(len(matrix))
    estimates = _traces(shifted, signs, coefficients, low, high) / len(matrix)
    grid = np.cos(np.linspace(0, np.pi, 20 * degree + 1))
    wrong = np.abs(chebyshev.chebval(grid, coefficients) - _log_on(grid, low, high)).max()
    return Approximation(
        value=float(estimates.mean()),
        error=float(estimates.std(ddof=1) / np.sqrt(probes)),
        truncation=float(wrong),
        flags=("unconverged",) if wrong > CONVERGED else (),
    )


def eigenscore_map(
    recordings: Sequence[Recording],
    *,
    phase: str = "response",
    embedding: str = "last",
    alpha: float = ALPHA,
) -> xr.Dataset:
    """Score every question of a recording with repeats, in every layer.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task with ``residual`` (pooled is enough) and ``record.repeats`` above 1.
    phase : str
        Phase whose tokens are the answer.
    embedding : str
        One of :data:`EMBEDDINGS`.
    alpha : float
        Added to every eigenvalue.

    Returns
    -------
    Dataset
        ``eigenscore`` (trial, layer), of the state after each block, in nats per answer;
        ``answers`` (trial). A question of fewer than two answers with tokens is NaN.
        ``without`` (trial, answer, layer), the score of the other answers with one left out, in
        the order of the recording; NaN where fewer than two others have tokens.

    Raises
    ------
    EvidenceError
        If the recording lacks ``residual`` or the phase, or has no question of two answers.
    """
    check_choice(embedding, EMBEDDINGS, "embedding", "the EigenScore", EvidenceError)
    _check_alpha(alpha)
    names, scores, answers, without = [], [], [], []
    layers: list[int] = []
    for recording in recordings:
        layers = _check(recording, phase)
        for name, states in _questions(recording, phase, embedding):
            spoken = np.isfinite(states).all(axis=(1, 2))
            names.append(name)
            answers.append(int(spoken.sum()))
            scores.append(_by_layer(states[spoken], alpha))
            others = ~np.eye(len(states), dtype=bool) & spoken
            without.append(np.array([_by_layer(states[own], alpha) for own in others]))
    if max(answers, default=0) < 2:
        raise EvidenceError(
            "An EigenScore must be of questions with several answers. None has two: set "
            "'record.repeats' above 1 and 'record.temperature' above 0, and record again."
        )
    most = max(map(len, without))
    padded = [
        np.pad(own, ((0, most - len(own)), (0, 0)), constant_values=np.nan) for own in without
    ]
    return xr.Dataset(
        {
            "eigenscore": (("trial", "layer"), np.array(scores)),
            "without": (("trial", "answer", "layer"), np.array(padded)),
            "answers": ("trial", answers),
        },
        coords={"trial": names, "layer": layers},
        attrs={"phase": phase, "embedding": embedding, "alpha": alpha, "units": "nat"},
    )


def _by_layer(states: np.ndarray, alpha: float) -> np.ndarray:
    """Scores of answers, (answers, layers, hidden), by layer; NaN of fewer than two."""
    if len(states) < 2:
        return np.full(states.shape[1], np.nan)
    return np.array([eigenscore(states[:, layer], alpha) for layer in range(states.shape[1])])


def _traces(
    matrix: np.ndarray, signs: np.ndarray, coefficients: np.ndarray, low: float, high: float
) -> np.ndarray:
    """``zᵀ p(B) z`` of every probe, by the recurrence ``T_{j+1} = 2 B T_j - T_{j-1}``."""

    def product(vectors: np.ndarray) -> np.ndarray:
        return (2 * (matrix @ vectors) - (high + low) * vectors) / (high - low)

    before, current = signs, product(signs)
    totals = coefficients[0] * (signs * before).sum(axis=0)
    for coefficient in coefficients[1:]:
        totals += coefficient * (signs * current).sum(axis=0)
        before, current = current, 2 * product(current) - before
    return totals


def _log_on(points: np.ndarray, low: float, high: float) -> np.ndarray:
    """Logarithm at points of [-1, 1] that stand for [low, high]."""
    return np.log((high - low) / 2 * points + (high + low) / 2)


def _centred(embeddings: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings, dtype=np.float64)
    if embeddings.ndim != 2 or len(embeddings) < 2 or not np.isfinite(embeddings).all():
        raise EvidenceError(
            "An EigenScore must have at least 2 answers of finite embeddings, as (answers, "
            f"features). Got the shape {embeddings.shape}"
            f"{'' if np.isfinite(embeddings).all() else ' with values that are not finite'}."
        )
    return embeddings - embeddings.mean(axis=1, keepdims=True)


def _products(embeddings: np.ndarray) -> np.ndarray:
    centred = _centred(embeddings)
    return centred @ centred.T


def _check_alpha(alpha: float) -> None:
    if not alpha >= 0:
        raise EvidenceError(f"The 'alpha' of the EigenScore must be at least 0. Got {alpha!r}.")


def _check(recording: Recording, phase: str) -> list[int]:
    if not recording.holds("pooled/residual/residual"):
        raise EvidenceError(
            f"{recording.path}: the recording must hold 'pooled/residual/residual'. It does not: "
            "add 'residual' to 'record.quantities' of the configuration and record again."
        )
    phases = [str(name) for name in recording.array("pooled/residual/phase")[:]]
    check_choice(phase, phases, "phase", f"the recording {recording.path}", EvidenceError)
    return [int(layer) for layer in recording.array("pooled/residual/layer")[:]]


def _questions(
    recording: Recording, phase: str, embedding: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Embeddings of the answers to each question after every block: (answers, layers, hidden).

    Repeats of a trial may lie anywhere in the recording, so it is read once for so many questions
    as fit in memory together.
    """
    array = recording.array("pooled/residual/residual")
    labels = {
        name: [str(label) for label in recording.array(f"pooled/residual/{name}")[:]]
        for name in ("phase", "statistic", "place")
    }
    at, place = labels["phase"].index(phase), labels["place"].index("after")
    used = ("last",) if embedding == "last" else ("last", "mean")
    statistics = [labels["statistic"].index(name) for name in used]
    rows_of = recording.trials.groupby("trial", sort=False).indices
    largest = max(map(len, rows_of.values()), default=1)
    together = max(1, MEMORY // (8 * largest * array.shape[3] * array.shape[5]))
    names, step = list(rows_of), array.chunks[0]
    for first in range(0, len(names), together):
        own = {name: rows_of[name] for name in names[first : first + together]}
        wanted = np.sort(np.concatenate(list(own.values())))
        found = np.empty((len(wanted), array.shape[3], array.shape[5]))
        for start in step * np.unique(wanted // step):
            inside = (wanted >= start) & (wanted < start + step)
            values = array[start : start + step, at, :, :, place][wanted[inside] - start]
            found[inside] = values[:, statistics].mean(axis=1, dtype=np.float64)
        for name, rows in own.items():
            yield str(name), found[np.searchsorted(wanted, rows)]
