"""Steering: vectors of the residual from two sets of states, and plans that add or ablate them.

A vector of a layer is the difference of the means of two sets of states (:func:`mean_difference`),
the first principal component of their differences (:func:`control_vector`), or what tells uncertain
states from the rest (:func:`entropy_weighted`). What it does is measured by how far the next
token's distribution moves from that of the intact subject, and how its entropy changes
(:func:`output_shift`): a scale that changes behaviour by making the subject babble shows as a large
divergence with a high entropy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from lmri.anatomy import Anatomy, Subject, equal_length_batches, trunk
from lmri.checks import check_choice
from lmri.errors import LmriError
from lmri.intervene.likelihood import next_token_distributions
from lmri.intervene.plans import INTACT, AnyPlan, Plan
from lmri.intervene.points import changed_state

Vectors = Mapping[int, np.ndarray]
"""By layer: vectors (hidden,), or several (n, hidden)."""

KIND = "residual_site"


@torch.inference_mode()
def last_states(
    subject: Subject, prompts: Sequence[Sequence[int]], rows: int, place: str = "after"
) -> np.ndarray:
    """Residual of every layer at the last token of prompts.

    Parameters
    ----------
    subject : Subject
        The subject, intact.
    prompts : sequence of sequence of int
        Token ids.
    rows : int
        Rows per forward pass, at most.
    place : str
        One of the places of the anatomy.

    Returns
    -------
    ndarray of shape (n_prompts, layers, hidden), float32
        The states.
    """
    anatomy = subject.anatomy
    _place_number(anatomy, place)
    states = np.empty((len(prompts), anatomy.layers, anatomy.hidden), dtype=np.float32)

    def keep(layer: int, batch: list[int], state: torch.Tensor) -> torch.Tensor:
        states[batch, layer] = state[:, -1].float().cpu().numpy()
        return state

    for batch in equal_length_batches([len(prompt) for prompt in prompts], rows):
        ids = torch.tensor([prompts[row] for row in batch], device=subject.device)
        with ExitStack() as stack:
            for layer in range(anatomy.layers):
                see = partial(keep, layer, batch)
                stack.enter_context(changed_state(subject.model, layer, place, see))
            trunk(subject.model)(input_ids=ids, use_cache=False)
    return states


def mean_difference(states: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Difference of means: ``v_l = mean_n x_nl - mean_m y_ml``.

    Parameters
    ----------
    states, others : ndarray of shape (n, layers, hidden) and (m, layers, hidden)
        States that the vectors lead to, and from.

    Returns
    -------
    ndarray of shape (layers, hidden), float64
        The vectors.
    """
    _check_states(states, others)
    return states.mean(axis=0, dtype=np.float64) - others.mean(axis=0, dtype=np.float64)


def control_vector(states: np.ndarray, others: np.ndarray) -> np.ndarray:
    """First principal component of paired differences, as long as their mean along it.

    The components are of the differences ``x_n - y_n`` and their negatives, so that the mean counts
    (representation engineering; Zou et al. 2023, arXiv 2310.01405). The sign is such that the
    states have the larger projection.

    Parameters
    ----------
    states, others : ndarray of shape (n, layers, hidden)
        States of pairs, in one order.

    Returns
    -------
    ndarray of shape (layers, hidden), float64
        The vectors: ``(mean difference . u) u`` with the component u of length 1.

    Raises
    ------
    LmriError
        If there are not as many of both.
    """
    _check_states(states, others)
    if len(states) != len(others):
        raise LmriError(
            "The states of a control vector must be pairs. "
            f"Got {len(states)} and {len(others)}: give as many of both, in one order."
        )
    differences = states.astype(np.float64) - others
    vectors = np.empty(differences.shape[1:])
    for layer in range(differences.shape[1]):
        _, _, components = np.linalg.svd(differences[:, layer], full_matrices=False)
        mean = differences[:, layer].mean(axis=0)
        vectors[layer] = (mean @ components[0]) * components[0]
    return vectors


def entropy_weighted(states: np.ndarray, entropies: np.ndarray) -> np.ndarray:
    """Towards states that are uncertain: ``v_l = sum_n w_n x_nl - mean_n x_nl``, w by entropy.

    ``w_n = H_n / sum_m H_m``, with ``H_n`` the entropy of what the subject would say in state n
    (or of what it would do). Less the plain mean, so that states of equal entropy give no vector.

    Parameters
    ----------
    states : ndarray of shape (n, layers, hidden)
        The states.
    entropies : ndarray of shape (n,)
        Entropy of each, at least 0; see :attr:`Shift.intact_entropy`.

    Returns
    -------
    ndarray of shape (layers, hidden), float64
        The vectors.

    Raises
    ------
    LmriError
        If there is not one entropy per state, or none is above 0.

    Notes
    -----
    After Rahn et al. 2024, Entropic activation steering (arXiv 2406.00244), who weigh states before
    a decision by the entropy of what is decided.
    """
    _check_states(states, states)
    entropies = np.asarray(entropies, dtype=np.float64)
    if entropies.shape != (len(states),) or entropies.min() < 0 or entropies.sum() == 0:
        raise LmriError(
            "The entropies of an entropy-weighted vector must be one for each of "
            f"{len(states)} states, at least 0 and not all 0. Got {entropies.shape[0]} numbers of "
            f"{entropies.min():.3g} to {entropies.max():.3g}."
        )
    weights = entropies / entropies.sum() - 1 / len(states)
    return np.einsum("n,nlh->lh", weights, states.astype(np.float64))


def steering_plan(
    anatomy: Anatomy,
    vectors: Vectors,
    scale: float = 1.0,
    *,
    place: str = "after",
    phase: str = "both",
) -> Plan:
    """Plan that adds scaled vectors: ``h_l <- h_l + scale v_l``.

    Parameters
    ----------
    anatomy : Anatomy
        Of the subject.
    vectors : mapping of int to ndarray of shape (hidden,)
        A vector of each layer that is steered; weights of layers are multiplied in.
    scale : float
        The scale; 0 changes no bit.
    place : str
        Where in the layer.
    phase : str
        Tokens that are steered.

    Returns
    -------
    Plan
        The plan.
    """
    number = _place_number(anatomy, place)
    values = {(layer, number): scale * np.asarray(vector) for layer, vector in vectors.items()}
    return Plan.of("add", sorted(values), KIND, values, phase)


def ablation_plan(
    anatomy: Anatomy,
    directions: Vectors,
    origins: Vectors | None = None,
    *,
    place: str = "after",
    phase: str = "both",
) -> Plan:
    """Plan that ablates a direction or a subspace: ``h_l <- h_l + V^T V (c_l - h_l)``.

    Parameters
    ----------
    anatomy : Anatomy
        Of the subject.
    directions : mapping of int to ndarray of shape (hidden,) or (n, hidden)
        Of each layer, of any length; made orthonormal.
    origins : mapping of int to ndarray of shape (hidden,), optional
        The state c that the residual has along them afterwards; by default 0. The residual stream
        has no natural zero: the mean over other trials removes less than it.
    place, phase : str
        As for :func:`steering_plan`.

    Returns
    -------
    Plan
        The plan.
    """
    number, values = _place_number(anatomy, place), {}
    for layer, own in directions.items():
        origin = np.zeros(anatomy.hidden) if origins is None else np.asarray(origins[layer])
        values[layer, number] = np.concatenate([origin, np.ravel(own)])
    return Plan.of("ablate", sorted(values), KIND, values, phase)


def early_exit(anatomy: Anatomy, layer: int, phase: str = "both") -> Plan:
    """Plan that reads the answer off after a layer: final normalisation and unembedding there.

    The layers after it pass on what they are given; they still run, and keep their keys and values.

    Parameters
    ----------
    anatomy : Anatomy
        Of the subject.
    layer : int
        The last layer that counts; the last of all is the intact subject.
    phase : str
        Tokens at which the subject exits early.

    Returns
    -------
    Plan
        The plan.
    """
    check_choice(layer, range(anatomy.layers), "layer", "an early exit", LmriError)
    return Plan(
        "zero", tuple((own,) for own in range(layer + 1, anatomy.layers)), "layer", (), phase
    )


@dataclass(frozen=True)
class Shift:
    """How far next-token distributions move, one number per prompt, in nats.

    Attributes
    ----------
    divergence : ndarray of shape (n_prompts,), float64
        Kullback-Leibler divergence ``KL(p || q)`` of the intact p from the distribution q under
        the plan; at least 0.
    entropy : ndarray of shape (n_prompts,), float64
        Entropy of q.
    intact_entropy : ndarray of shape (n_prompts,), float64
        Entropy of p.
    """

    divergence: np.ndarray
    entropy: np.ndarray
    intact_entropy: np.ndarray


def output_shift(
    subject: Subject, prompts: Sequence[Sequence[int]], plan: AnyPlan, rows: int
) -> Shift:
    """Measure what a plan does to the next token's distribution after prompts.

    Parameters
    ----------
    subject : Subject
        The subject.
    prompts : sequence of sequence of int
        Token ids; the last token may be one of a response, see :func:`.likelihood`.
    plan : Plan or Combined
        The plan.
    rows : int
        Prompts per forward pass, at most; each is run intact and under the plan in one batch.

    Returns
    -------
    Shift
        The divergence and the entropies.
    """
    n, both = len(prompts), np.zeros((3, len(prompts)))
    pairs = [row for row in range(n) for _ in range(2)]
    found = next_token_distributions(
        subject,
        [prompts[row] for row in pairs],
        plans=(INTACT, plan),
        plan_of_row=[0, 1] * n,
        rows=2 * rows,
    )
    held: dict[int, torch.Tensor] = {}
    for batch, logs in found:
        for row, own in zip(batch, logs, strict=True):
            prompt = row // 2
            if prompt not in held:
                held[prompt] = own
                continue
            p, q = (held.pop(prompt), own) if row % 2 else (own, held.pop(prompt))
            likely = p > -torch.inf  # what is never said adds nothing
            divergence = (p[likely].exp() * (p - q)[likely]).sum().clamp_min(0)
            entropies = [torch.special.entr(log.exp()).sum() for log in (q, p)]
            both[:, prompt] = [divergence, *entropies]
    return Shift(*both)


@dataclass(frozen=True)
class ScaleSearch:
    """What a search for a scale found.

    Attributes
    ----------
    scale : float or None
        The smallest scale, by size, that reaches the target while it is admissible; None if none
        does.
    tried : list of dict
        Every scale that was tried, in order: ``scale``, ``effect``, ``admissible``.
    """

    scale: float | None
    tried: list[dict]


def search_scale(
    effect: Callable[[float], tuple[float, bool]], scales: Sequence[float], target: float
) -> ScaleSearch:
    """Search the smallest scale that has an effect, on calibration trials.

    Scales are tried by size until one reaches the target: the effect need not be monotone, and a
    bisection would then find any.

    Parameters
    ----------
    effect : callable
        From a scale to its effect, and whether it is admissible (responses are coherent, the
        divergence is small enough).
    scales : sequence of float
        Candidates.
    target : float
        Effect that is reached or passed.

    Returns
    -------
    ScaleSearch
        The scale, and all that were tried.

    Raises
    ------
    LmriError
        If there is no candidate.
    """
    if not len(scales):
        raise LmriError("The scales of a search must be at least one. Got none.")
    tried = []
    for scale in sorted(scales, key=lambda own: (abs(own), own)):
        value, admissible = effect(float(scale))
        tried.append({"scale": float(scale), "effect": value, "admissible": bool(admissible)})
        if admissible and value >= target:
            return ScaleSearch(float(scale), tried)
    return ScaleSearch(None, tried)


def _place_number(anatomy: Anatomy, place: str) -> int:
    check_choice(place, anatomy.places, "place", "a residual", LmriError)
    return anatomy.places.index(place)


def _check_states(states: np.ndarray, others: np.ndarray) -> None:
    shapes = np.shape(states), np.shape(others)
    if any(len(own) != 3 or own[0] == 0 for own in shapes) or shapes[0][1:] != shapes[1][1:]:
        raise LmriError(
            "The states of two sets must be arrays (prompts, layers, hidden) of at least one "
            f"prompt and as many layers and dimensions. Got {shapes[0]} and {shapes[1]}."
        )
