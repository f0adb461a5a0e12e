"""Key-space abstention: a subject that does not answer what looks like the target to its MLP.

The keys of a prompt are what the output projection of an MLP reads at its last token. The keys of
target prompts span a hypercube, and a prompt whose keys lie in it gets a fixed answer. Keys of
experts are the neurons of all experts of the layer, 0 where an expert does not read the token.

Source: Li et al. 2025, Effective skill unlearning (arXiv 2503.21730), who find the size of the cube
by bisection; here it is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from lmri.anatomy import Subject, encode, equal_length_batches, trunk
from lmri.checks import check_choice
from lmri.errors import LmriError
from lmri.intervene.decoding import Responses
from lmri.intervene.experts import Pairs, changed_experts, skipping_experts
from lmri.intervene.points import SITES, changed_input
from lmri.intervene.units import KINDS

ABSTENTION = "Sorry, your query is not valid"
"""The published answer."""

KEYS = ("neuron", "shared_neuron", "expert_neuron")
"""Kinds of units that are keys."""


@dataclass(frozen=True)
class Hypercube:
    """``|x_i - centre_i| <= scale * size * deviation_i`` in every dimension i.

    Attributes
    ----------
    centre, deviation : ndarray of shape (width,), float64
        Mean and standard deviation (n - 1) of the keys it was fitted to. Dimensions in which
        these do not vary are left open.
    size : float
        The smallest with which all of them are inside at a scale of 1:
        ``max |x_ni - centre_i| / deviation_i``.
    """

    centre: np.ndarray
    deviation: np.ndarray
    size: float

    @classmethod
    def fit(cls, keys: np.ndarray) -> Hypercube:
        """Fit the cube to keys.

        Parameters
        ----------
        keys : ndarray of shape (n, width)
            Keys of target prompts.

        Returns
        -------
        Hypercube
            The cube.

        Raises
        ------
        LmriError
            If there are fewer than two keys, or they do not vary at all.
        """
        keys = np.asarray(keys, dtype=np.float64)
        varies = np.ptp(keys, axis=0) > 0 if len(keys) > 1 else np.zeros(0, dtype=bool)
        if not varies.any():
            raise LmriError(
                "The keys of a hypercube must be at least 2 that differ. Got "
                f"{len(keys)}{' equal ones' if len(keys) > 1 else ''}: give more target prompts."
            )
        centre, deviation = keys.mean(axis=0), keys.std(axis=0, ddof=1)
        deviation[~varies] = 0.0
        ratios = np.abs(keys - centre)[:, varies] / deviation[varies]
        return cls(centre, deviation, float(ratios.max()))

    def holds(self, keys: np.ndarray, scale: float = 1.0, *, is_closed: bool = False) -> np.ndarray:
        """Tell which keys are inside.

        Parameters
        ----------
        keys : ndarray of shape (n, width)
            The keys.
        scale : float
            Factor of the size, as published between .06 and 2.
        is_closed : bool
            Whether the cube has no extent in dimensions in which the keys did not vary: a prompt
            that an expert reads which read none of the target's is outside.

        Returns
        -------
        ndarray of shape (n,), bool
            True inside and on the surface.
        """
        varies = self.deviation > 0
        distance = np.abs(np.asarray(keys, dtype=np.float64) - self.centre)
        inside = (distance[:, varies] / self.deviation[varies] <= scale * self.size).all(axis=1)
        return inside & (distance[:, ~varies] == 0).all(axis=1) if is_closed else inside


@torch.inference_mode()
def last_keys(
    subject: Subject, prompts: Sequence[Sequence[int]], kind: str, layer: int, rows: int
) -> np.ndarray:
    """Keys of prompts at their last token.

    Parameters
    ----------
    subject : Subject
        The subject.
    prompts : sequence of sequence of int
        Token ids.
    kind : str
        ``neuron`` of dense MLPs, ``shared_neuron`` or ``expert_neuron``.
    layer : int
        The layer; the last one as published.
    rows : int
        Rows per forward pass, at most.

    Returns
    -------
    ndarray of shape (n_prompts, neurons), float32
        What the output projection reads; of experts expert after expert.

    Raises
    ------
    LmriError
        If the kind has no keys, or the layer none of that kind.
    """
    check_choice(kind, KEYS, "kind", "the key space", LmriError)
    if layer not in KINDS[kind].layers(subject.anatomy):
        raise LmriError(
            f"The layer of the key space must have {KINDS[kind].plural}, one of "
            f"{list(KINDS[kind].layers(subject.anatomy))} in subject '{subject.name}'. Got {layer}."
        )
    shape = KINDS[kind].shape(subject.anatomy)
    keys = np.zeros((len(prompts), *shape), dtype=np.float32)
    for batch in equal_length_batches([len(prompt) for prompt in prompts], rows):
        ids = torch.tensor([prompts[row] for row in batch], device=subject.device)
        with _kept(subject, kind, layer, keys, batch):
            trunk(subject.model)(input_ids=ids, use_cache=False)
    return keys.reshape(len(prompts), -1)


@contextmanager
def _kept(
    subject: Subject, kind: str, layer: int, keys: np.ndarray, batch: np.ndarray
) -> Iterator[None]:
    """Keep what the output projection reads at the last tokens of a batch."""

    def keep(activity: torch.Tensor) -> torch.Tensor:
        last = activity.reshape(len(batch), -1, activity.shape[-1])[:, -1]
        keys[batch] = last.float().cpu().numpy()
        return activity

    def keep_pairs(neurons: torch.Tensor, pairs: Pairs) -> torch.Tensor:
        tokens = pairs.n_tokens // len(batch)
        last = pairs.tokens % tokens == tokens - 1
        rows = np.asarray(batch)[(pairs.tokens[last] // tokens).cpu().numpy()]
        keys[rows, pairs.experts[last].cpu().numpy()] = neurons[last].float().cpu().numpy()
        return neurons

    if kind == "expert_neuron":
        with skipping_experts(subject.model), changed_experts(subject.model, layer, keep_pairs):
            yield
    else:
        with changed_input(SITES[kind](subject.model)[layer], keep):
            yield


def abstained(
    subject: Subject, responses: Responses, inside: np.ndarray, text: str = ABSTENTION
) -> Responses:
    """Put a fixed answer in the place of some responses.

    Parameters
    ----------
    subject : Subject
        The subject, for its tokenizer.
    responses : Responses
        Responses to prompts, under any plans.
    inside : ndarray of shape (n_rows,), bool
        Which prompts get the fixed answer, see :meth:`Hypercube.holds`.
    text : str
        The answer.

    Returns
    -------
    Responses
        A fixed answer has ended, and no onset margin (NaN).
    """
    said = encode(subject.tokenizer, text, "the abstention")
    answer = np.array([*said, subject.tokenizer.eos_token_id], dtype=np.int64)
    return replace(
        responses,
        tokens=[answer if out else own for own, out in zip(responses.tokens, inside, strict=True)],
        ended=responses.ended | inside,
        onset_margin=np.where(inside, np.float32(np.nan), responses.onset_margin),
    )
