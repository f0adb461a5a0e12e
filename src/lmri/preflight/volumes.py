"""How many trials and tokens a study runs, and how many bytes their recordings are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from transformers import PreTrainedTokenizerBase

from lmri.anatomy import Anatomy, load_tokenizer, render_trials, variables
from lmri.anatomy.table import NEVER_POOLED, POOLED_BYTES, TABLE_PHASES
from lmri.config import RecordOptions, StudyConfig, SubjectOptions
from lmri.world import build_tokenizer, make_world

SAMPLE = 200
"""Prompts of a task whose tokens are counted."""

PER_TOKEN = 4.0
"""Characters of a token where the tokenizer is not at hand, as in English text."""

INDEX_BYTES = 21
"""Bytes of a token that are always kept: its trial, position, phase, id and next-token scores."""

POOL_BYTES = 8
"""Bytes of a neuron of an expert in a pool: a sum and a sum of squares, in float32."""


@dataclass(frozen=True)
class Trials:
    """The trials of one task, as one subject reads them.

    Attributes
    ----------
    by_split : dict of str to int
        Their number.
    prompt : float
        Mean tokens of a prompt.
    conditions : int
        Different ones.
    """

    by_split: dict[str, int]
    prompt: float
    conditions: int = 1

    def count(self, *splits: str) -> int:
        """Number of trials in some splits."""
        return sum(self.by_split.get(split, 0) for split in splits)


def subject_tokenizer(
    study: StudyConfig, subject: SubjectOptions
) -> PreTrainedTokenizerBase | None:
    """Find the tokenizer of a subject, where it needs no network.

    Parameters
    ----------
    study : StudyConfig
        The study.
    subject : SubjectOptions
        The subject.

    Returns
    -------
    transformers.PreTrainedTokenizerBase or None
        None for a subject on a hub.
    """
    if subject.source == "hub":
        return None
    if subject.path is not None:
        return load_tokenizer(Path(subject.path))
    return build_tokenizer(make_world(study.world.seed, study.world.size))


def count_trials(table: pd.DataFrame, tokenizer: PreTrainedTokenizerBase | None) -> Trials:
    """Count the trials of a task, and the tokens of a prompt.

    Parameters
    ----------
    table : DataFrame
        Stimuli.
    tokenizer : transformers.PreTrainedTokenizerBase or None
        Of the subject; without one tokens are told from characters.

    Returns
    -------
    Trials
        The numbers.
    """
    sample = table.iloc[:: max(1, len(table) // SAMPLE)]
    if tokenizer is None:
        prompt = sample["prompt"].str.len().mean() / PER_TOKEN
    else:
        lengths = [len(rendered.ids) for rendered in render_trials(tokenizer, sample)]
        prompt = sum(lengths) / len(lengths)
    by_split = {str(name): int(n) for name, n in table["split"].value_counts().items()}
    return Trials(by_split, float(prompt), int(table["condition"].nunique()))


def recorded(trials: Trials, options: RecordOptions) -> tuple[int, float]:
    """Count the rows and the tokens of a recording.

    Parameters
    ----------
    trials : Trials
        Of the task.
    options : RecordOptions
        Which splits, how often, and the limit of a response.

    Returns
    -------
    rows : int
        Trials, each as often as it is sampled.
    tokens : float
        At most: a response may end before its limit.
    """
    rows = trials.count(*options.splits) * options.repeats
    return rows, rows * (trials.prompt + options.max_new_tokens)


def value_bytes(anatomy: Anatomy, options: RecordOptions, rows: int, tokens: float) -> float:
    """Bytes of the values of a recording, before compression.

    Parameters
    ----------
    anatomy : Anatomy
        Of the subject.
    options : RecordOptions
        What is recorded.
    rows, tokens
        See :func:`recorded`.

    Returns
    -------
    float
        Of what is kept for every token, and pooled by trial and phase.
    """
    total = INDEX_BYTES * tokens
    for variable in variables(anatomy, options.stored):
        if variable.quantity not in options.quantities:
            continue
        in_full = variable.bytes_per_token * tokens
        full = variable.quantity in options.full
        if variable.node == "expert_neuron":
            layers, _, neurons = variable.shape
            most = rows * TABLE_PHASES * min(anatomy.experts, anatomy.top_k * tokens / rows)
            pools = layers * most * neurons * POOL_BYTES if rows else 0.0
            total += in_full if full else min(in_full, pools)
            continue
        if full or variable.node == "extremes" or variable.path in _ALWAYS:
            total += in_full
        if variable.path not in NEVER_POOLED and variable.node != "extremes":
            total += math.prod(variable.shape) * POOLED_BYTES * TABLE_PHASES * rows
    return total


_ALWAYS = ("router/expert_id", "router/weight")


def units_of(kind: str, anatomy: Anatomy) -> int:
    """Count the units of a kind.

    Parameters
    ----------
    kind : str
        As in the name of a map, before its first dot.
    anatomy : Anatomy
        Of the subject.

    Returns
    -------
    int
        0 where the subject has none.
    """
    a = anatomy
    counts: Mapping[str, int] = {
        "expert": len(a.moe_layers) * a.experts,
        "expert_neuron": len(a.moe_layers) * a.experts * a.expert_size,
        "neuron": len(a.dense_layers) * a.neurons,
        "shared_neuron": len(a.shared_layers) * a.shared_size,
        "head": a.layers * a.heads,
        "residual": a.layers * a.hidden,
        "layer": a.layers,
    }
    return counts.get(kind, 0)
