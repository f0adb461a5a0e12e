"""Functional connectivity: five matrices of how nodes vary together over trials."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from lmri.checks import check_choice
from lmri.connect.activity import LEAST_NODES, LEAST_TRIALS
from lmri.errors import EvidenceError

KINDS = ("covariance", "correlation", "partial correlation", "precision", "tangent")
"""Kinds of connectivity, as nilearn names them."""

STILL = 1e-9
"""Deviation of a constant, as a share of it: rounding gives it one."""

SHRUNK = ("partial correlation", "precision", "tangent")
"""Kinds that need a covariance that can be inverted."""

BOUNDED = ("correlation", "partial correlation")
"""Kinds between -1 and 1, compared as Fisher's z."""


def connectivity(
    sessions: Mapping[str, np.ndarray], kind: str, reference: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Estimate the connectivity of nodes in each of some sessions.

    From the covariance S of a session: ``correlation`` is S_ij / sqrt(S_ii S_jj), ``precision`` is
    P = S^-1, ``partial correlation`` is -P_ij / sqrt(P_ii P_jj), and ``tangent`` is
    log(G^-1/2 S G^-1/2), the deviation of the session from G, the geometric mean of the covariances
    of the reference. For the last three S is shrunk towards a multiple of the identity by Ledoit
    and Wolf's formula, since it cannot be inverted as it is: choices of experts sum to a constant.
    Correlations are not shrunk, as nilearn would by default: with weak connections the formula
    shrinks all of them to exactly 0, and with others it says how strong they all are together.

    Parameters
    ----------
    sessions : mapping of str to ndarray of shape (n_trials, n_nodes)
        Activity; nodes are divided by their deviation over all sessions together, so that
        differences in variance between sessions stay.
    kind : str
        One of :data:`KINDS`.
    reference : sequence of str, optional
        Sessions that G is of; by default all of them. Where ``tangent`` is used to predict,
        these are the training sessions.

    Returns
    -------
    dict of str to ndarray of shape (n_nodes, n_nodes), float64
        By session.

    Raises
    ------
    EvidenceError
        If a kind or session is unknown, there are too few trials or nodes, a node is constant in
        all sessions, or ``tangent`` has one session to be compared with itself.

    References
    ----------
    G. Varoquaux et al., Detection of brain functional-connectivity difference in post-stroke
    patients using group-level covariance modeling, MICCAI 2010.
    """
    check_choice(kind, KINDS, "kind", "connectivity", EvidenceError)
    reference = tuple(sessions) if reference is None else tuple(reference)
    for name in reference:
        check_choice(name, sessions, "reference", "connectivity", EvidenceError)
    if kind == "tangent" and len(sessions) < 2:
        raise EvidenceError(
            "Connectivity of the kind 'tangent' must have 2 sessions or more, since it is their "
            f"deviation from the mean of a reference. Got {len(sessions)}."
        )
    scaled = _scaled(sessions)
    found = _estimated(list(scaled.values()), [scaled[name] for name in reference], kind)
    return dict(zip(scaled, found, strict=True))


def each_alone(activities: Sequence[np.ndarray], kind: str) -> np.ndarray:
    """Estimate the connectivity of activities that have nothing to do with each other.

    Parameters
    ----------
    activities : sequence of ndarray of shape (n_trials, n_nodes)
        Finite activity; each is divided by its own deviations. A node that does not vary in one has
        no edge there.
    kind : str
        One of :data:`KINDS` but ``tangent``.

    Returns
    -------
    ndarray of shape (n_activities, n_nodes, n_nodes), float64
        One matrix for each.

    Raises
    ------
    EvidenceError
        If the kind is another one.
    """
    check_choice(kind, [own for own in KINDS if own != "tangent"], "kind", "edges", EvidenceError)
    ready = []
    for own in activities:
        centred = own - own.mean(axis=0)
        spread = centred.std(axis=0)
        still = spread <= STILL * np.abs(own).max(axis=0)
        ready.append(np.where(still, 0.0, centred / np.where(still, 1.0, spread)))
    return np.nan_to_num(_estimated(ready, ready[:1], kind))


def edge_values(matrices: np.ndarray, kind: str) -> np.ndarray:
    """Values of the edges, on a scale on which they are compared.

    Parameters
    ----------
    matrices : ndarray of shape (..., n_nodes, n_nodes)
        Connectivity.
    kind : str
        Its kind.

    Returns
    -------
    ndarray of shape (..., n_edges), float64
        Above the diagonal, row by row; Fisher's z of correlations.
    """
    rows, columns = np.triu_indices(matrices.shape[-1], 1)
    edges = matrices[..., rows, columns]
    # A correlation of exactly 1 is that of two copies of one node: large, and still a number.
    return np.arctanh(np.clip(edges, -1 + 1e-12, 1 - 1e-12)) if kind in BOUNDED else edges


def square(edges: np.ndarray, nodes: int, diagonal: float = np.nan) -> np.ndarray:
    """Put values of edges into a symmetric matrix: the reverse of :func:`edge_values`.

    Parameters
    ----------
    edges : ndarray of shape (n_edges,)
        Values.
    nodes : int
        Number of nodes.
    diagonal : float
        What stands on the diagonal.

    Returns
    -------
    ndarray of shape (n_nodes, n_nodes), float64
        The matrix.
    """
    matrix = np.full((nodes, nodes), diagonal, dtype=np.float64)
    rows, columns = np.triu_indices(nodes, 1)
    matrix[rows, columns] = matrix[columns, rows] = edges
    return matrix


def _estimated(activities: list[np.ndarray], reference: list[np.ndarray], kind: str) -> np.ndarray:
    from nilearn.connectome import ConnectivityMeasure  # takes seconds
    from sklearn.covariance import EmpiricalCovariance, LedoitWolf

    estimator = LedoitWolf if kind in SHRUNK else EmpiricalCovariance
    measure = ConnectivityMeasure(
        cov_estimator=estimator(store_precision=False), kind=kind, standardize=False
    )
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", (FutureWarning, DeprecationWarning))
        # The reference of 'tangent' is as it is after 30 rounds, which nilearn does not let choose.
        warnings.filterwarnings("ignore", "Maximum number of iterations", UserWarning)
        return np.asarray(measure.fit(reference).transform(activities))


def _scaled(sessions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Divide nodes by their deviation over all sessions, each of which is centred on its own."""
    if not sessions:
        raise EvidenceError("Connectivity must have 1 session or more. Got none.")
    for name, values in sessions.items():
        if len(values) < LEAST_TRIALS:
            raise EvidenceError(
                f"Connectivity must be estimated from {LEAST_TRIALS} trials or more. The session "
                f"'{name}' has {len(values)}: leave it out, or record more."
            )
        if values.shape[1] < LEAST_NODES:
            raise EvidenceError(
                f"Connectivity must be of {LEAST_NODES} nodes or more. The session '{name}' has "
                f"{values.shape[1]}."
            )
        if not np.isfinite(values).all():
            raise EvidenceError(
                f"Connectivity must be of finite activity. The session '{name}' has "
                f"{int((~np.isfinite(values)).sum())} values that are not."
            )
    centred = {name: own - own.mean(axis=0) for name, own in sessions.items()}
    count = sum(len(own) for own in centred.values())
    spread = np.sqrt(sum((own**2).sum(axis=0) for own in centred.values()) / count)
    largest = np.max([np.abs(own).max(axis=0) for own in sessions.values()], axis=0)
    still = np.flatnonzero(spread <= STILL * largest)
    if len(still):
        raise EvidenceError(
            f"Connectivity must be of nodes that vary. {len(still)} of {len(spread)} are constant "
            f"in every session, the first is node {still[0]}: leave them out."
        )
    return {name: own / spread for name, own in centred.items()}
