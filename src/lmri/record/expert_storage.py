"""How a task keeps the neurons of experts, in full or pooled: whichever is smaller.

That depends on how many tokens of a phase share an expert. It is found by answering and running a
few trials. They are of the whole task, not of a shard: shards that were kept in different ways
could not be read as one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from lmri.anatomy import Prompt, Subject, similar_length_batches, variables
from lmri.config import RecordOptions
from lmri.record.capture import EXPERT_NEURONS, ExpertStorage
from lmri.record.generation import repeat_trials, respond_to_rows
from lmri.record.hooks import capturing
from lmri.record.scan import make_batch, run_batch, without_experts

TRIALS = 8
"""Trials that are looked at, at most."""


def typical_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """Choose the trials that are looked at.

    Parameters
    ----------
    trials : DataFrame
        All trials of a task that are recorded, in any shard, with their ``prompt``.

    Returns
    -------
    DataFrame
        Up to :data:`TRIALS` of them: of middle length, so that as much text is in shorter prompts
        as in longer ones. An average trial would say little about where most tokens are.
    """
    lengths = trials["prompt"].str.len().to_numpy()
    order = np.argsort(lengths, kind="stable")
    so_far = np.cumsum(lengths[order])
    middle = int(np.searchsorted(so_far, so_far[-1] / 2))
    first = max(0, min(middle - TRIALS // 2, len(order) - TRIALS))
    return trials.iloc[order[first : first + TRIALS]].reset_index(drop=True)


def needs_choice(subject: Subject, options: RecordOptions) -> bool:
    """Say whether neurons of experts are recorded, and not asked for in full.

    Parameters
    ----------
    subject : Subject
        The subject.
    options : RecordOptions
        What is recorded.

    Returns
    -------
    bool
        Whether :func:`choose_expert_storage` has something to choose.
    """
    if "neuron" not in options.quantities or "neuron" in options.full:
        return False
    return any(variable.path == EXPERT_NEURONS for variable in variables(subject.anatomy))


@torch.inference_mode()
def choose_expert_storage(
    subject: Subject,
    trials: pd.DataFrame,
    prompts: list[Prompt],
    phases: tuple[str, ...],
    options: RecordOptions,
    seed: int,
) -> ExpertStorage | None:
    """Answer and run trials, and choose what takes fewer bytes for them.

    Parameters
    ----------
    subject : Subject
        The subject.
    trials : DataFrame
        From :func:`typical_trials`.
    prompts : list of Prompt
        One per trial.
    phases : tuple of str
        Phases that are pooled.
    options : RecordOptions
        What is recorded, and how.
    seed : int
        Seed of the study.

    Returns
    -------
    ExpertStorage or None
        The choice; None, without running anything, if there is none, see :func:`needs_choice`.
    """
    if not needs_choice(subject, options):
        return None
    once = replace(options, repeats=1)
    repeated, asked = repeat_trials(trials, prompts, once.repeats)
    _, texts = respond_to_rows(subject, repeated, asked, once, seed)
    full = pooled = 0
    limits = options.rows, options.padding, options.batch_tokens
    with (
        capturing(subject, {"neuron"}, set(), options.stored) as capture,
        without_experts(subject, options) as session,
    ):
        for rows in similar_length_batches([len(text) for text in texts], *limits):
            batch, _ = make_batch(subject, [texts[row] for row in rows], phases)
            run_batch(subject, capture, batch, session)
            own = capture.expert_bytes()
            full, pooled = full + own[0], pooled + own[1]
    in_full = full <= pooled
    sizes = f"{full} bytes in full, {pooled} pooled in {len(texts)} trials of middle length"
    return ExpertStorage(in_full, f"{'full' if in_full else 'pooled'}: {sizes}")
