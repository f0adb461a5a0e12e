"""What a plan costs in quality: perplexity, accuracy, and how far the predictions move.

Every trial is run densely and under the plan, in batches of the same composition, with the
reference as context: a greedy response is the reference if and only if its next token is the most
likely one everywhere. All positions but the first few follow the plan, those of the prompt too, so
that prompt and response are treated alike; a kernel that skips at decoding alone loses less.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lmri.anatomy import Subject, equal_length_batches
from lmri.score import Effect, Resampler, joint_carriers
from lmri.sparse.measures.trials import Trials

RESAMPLES = 1000
"""Draws of carriers behind an interval."""

LEVEL = 0.95

TRIAL_COLUMNS = ("n_tokens", "nll", "nll_dense", "divergence", "exact", "exact_dense")


class DenseScores:
    """Predictions of the dense subject for the scored tokens of some trials, in a file.

    Divergence needs all of them at every plan: kept in memory they would grow with the trials, made
    anew they would double the passes.

    Parameters
    ----------
    subject : Subject
        The subject, under no plan.
    trials : Trials
        The trials.
    rows : int
        Trials per forward pass, at most.
    path : Path
        File to write: 4 bytes for every token that is scored and every token of the vocabulary.
    """

    def __init__(self, subject: Subject, trials: Trials, rows: int, path: Path) -> None:
        counts = [len(ids) - start for ids, start in zip(trials.ids, trials.starts, strict=True)]
        self._ends = np.cumsum(counts)
        self._counts = counts
        shape = (int(self._ends[-1]), subject.model.get_output_embeddings().weight.shape[0])
        self._values = np.memmap(path, np.float32, "w+", shape=shape)
        for row, said in _scored(subject, trials, rows):
            self._values[self._of(row)] = said.cpu().numpy()

    def __getitem__(self, row: int) -> torch.Tensor:
        """Log-probabilities of one trial, of shape (n_tokens, vocabulary), float32."""
        return torch.from_numpy(np.array(self._values[self._of(row)]))

    def _of(self, row: int) -> slice:
        return slice(int(self._ends[row]) - self._counts[row], int(self._ends[row]))


def paired_scores(subject: Subject, dense: DenseScores, trials: Trials, rows: int) -> pd.DataFrame:
    """Score every trial under the plan in force, beside the dense subject.

    Parameters
    ----------
    subject : Subject
        The subject, inside :func:`lmri.sparse.runtime.sparse`.
    dense : DenseScores
        Of the same trials and rows.
    trials : Trials
        The trials.
    rows : int
        Trials per forward pass, at most. Memory is that of the logits of as many.

    Returns
    -------
    DataFrame
        One row a trial, numbered as in the trials: ``n_tokens`` scored; ``nll`` and ``nll_dense``,
        nats per token; ``divergence``, ``KL(dense || sparse)`` in nats per token; ``exact`` and
        ``exact_dense``, 1 where the greedy response is the reference, NaN without a reference.
    """
    values = np.full((len(trials.ids), len(TRIAL_COLUMNS)), np.nan)
    for row, said in _scored(subject, trials, rows):
        start = trials.starts[row]
        tokens = torch.tensor(trials.ids[row][start:])
        values[row] = _scores(said.cpu(), dense[row], tokens, start == trials.prompts[row])
    return pd.DataFrame(values, columns=list(TRIAL_COLUMNS))


@torch.inference_mode()
def _scored(subject: Subject, trials: Trials, rows: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Log-probabilities (n_tokens, vocabulary) of the scored tokens, trial by trial."""
    for batch in equal_length_batches([len(ids) for ids in trials.ids], rows):
        ids = torch.tensor([trials.ids[row] for row in batch], device=subject.device)
        first = min(trials.starts[row] for row in batch)
        kept = ids.shape[1] - first + 1
        logits = subject.model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
        said = torch.log_softmax(logits[:, :-1].float(), dim=-1)
        for place, row in enumerate(batch):
            yield row, said[place, trials.starts[row] - first :]


def _scores(
    said: torch.Tensor, was: torch.Tensor, tokens: torch.Tensor, answered: bool
) -> list[float]:
    own, dense = (p.gather(1, tokens[:, None]).double().mean().item() for p in (said, was))
    divergence = (was.exp() * (was - said)).sum(-1).double().mean().item()
    hits = [float((p.argmax(-1) == tokens).all()) if answered else np.nan for p in (said, was)]
    return [len(tokens), -own, -dense, divergence, *hits]


def summarise(scores: pd.DataFrame, trials: pd.DataFrame, seed: int) -> dict[str, float]:
    """Summarise the scores of some trials, with intervals over their carriers.

    Parameters
    ----------
    scores : DataFrame
        From :func:`paired_scores`.
    trials : DataFrame
        The same trials, with their ``task`` and carriers.
    seed : int
        Seed of the draws.

    Returns
    -------
    dict of str to float
        ``n``, ``n_carriers`` (of the carrier with the fewest); ``perplexity_dense``;
        ``perplexity_ratio``, that of the mean loss per trial, with ``ratio_low`` and
        ``ratio_high``; ``divergence`` with its bounds; ``exact_dense``, ``exact`` and
        ``exact_change`` with its bounds.
    """
    resampler = Resampler(joint_carriers(trials), RESAMPLES, seed)
    loss = resampler.effect((scores["nll"] - scores["nll_dense"]).to_numpy(), LEVEL, is_rate=False)
    moved = resampler.effect(scores["divergence"].to_numpy(), LEVEL, is_rate=False)
    answered = scores["exact"].notna().to_numpy()
    change = _exact_change(scores[answered], trials[answered], seed)
    return {
        "n": len(scores),
        "n_carriers": loss.n_carriers,
        "perplexity_dense": float(np.exp(scores["nll_dense"].mean())),
        "perplexity_ratio": float(np.exp(loss.mean)),
        "ratio_low": float(np.exp(loss.low)),
        "ratio_high": float(np.exp(loss.high)),
        "divergence": moved.mean,
        "divergence_low": moved.low,
        "divergence_high": moved.high,
        "exact_dense": float(scores["exact_dense"].mean()),
        "exact": float(scores["exact"].mean()),
        "exact_change": change.mean,
        "exact_low": change.low,
        "exact_high": change.high,
    }


def _exact_change(scores: pd.DataFrame, trials: pd.DataFrame, seed: int) -> Effect:
    if scores.empty:
        return Effect(np.nan, np.nan, np.nan, 0, 0)
    change = (scores["exact"] - scores["exact_dense"]).to_numpy()
    return Resampler(joint_carriers(trials), RESAMPLES, seed).effect(change, LEVEL)


def largest_within(sparsity: np.ndarray, ratio: np.ndarray, loss: float) -> int | None:
    """Find the largest sparsity that was measured at which the perplexity rises by less.

    Nothing is interpolated: between two sparsities, and below the smallest, a policy that replaces
    an activation function need not lie between its neighbours or the dense subject.

    Parameters
    ----------
    sparsity : ndarray of shape (n,), float64
        Achieved sparsities of one policy.
    ratio : ndarray of shape (n,), float64
        Perplexity ratio at each.
    loss : float
        The share, such as .01.

    Returns
    -------
    int or None
        Position of the plan; None if all cost more.
    """
    within = np.flatnonzero(ratio < 1 + loss)
    return int(within[np.argmax(sparsity[within])]) if len(within) else None
