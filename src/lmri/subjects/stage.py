"""One training stage from a model in memory to a finished folder."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from lmri.store.atomic import atomic_directory
from lmri.subjects.card import write_cards
from lmri.subjects.corpus import Batch, Corpus
from lmri.subjects.evaluate import evaluate
from lmri.subjects.model import forward
from lmri.subjects.recipe import Recipe
from lmri.subjects.training import Objective, Run, Schedule, cosine_schedule, run_training
from lmri.world import World

__all__ = ["Stage", "checkpoint_folder", "run_stage", "training_run"]


@dataclass(frozen=True)
class Stage:
    """What tells one training stage from another.

    Attributes
    ----------
    out : Path
        Folder to write.
    label : str
        For the progress bar.
    facts : mapping
        Seeds and names for the card; with the recipe they determine the result.
    stream : tuple of int
        Seeds of the order of documents.
    refuse : bool
        Whether the documents refuse sensitive questions.
    steps : int
        Steps in all.
    peak : float
        Largest learning rate.
    kept : tuple of int
        Steps kept as checkpoints.
    dtype : torch.dtype
        Of the written weights.
    recipe : Recipe
        Hyper-parameters.
    objective, schedule : callable, optional
        Replace the recipe's.
    """

    out: Path
    label: str
    facts: Mapping[str, Any]
    stream: tuple[int, ...]
    refuse: bool
    steps: int
    peak: float
    kept: tuple[int, ...]
    dtype: torch.dtype
    recipe: Recipe
    objective: Objective | None
    schedule: Schedule | None


def run_stage(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, world: World, stage: Stage
) -> None:
    """Train a model in place and write the finished subject.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With `requires_grad` set on the parameters to train.
    tokenizer : transformers.PreTrainedTokenizerFast
        Of the world.
    world : World
        What to train on.
    stage : Stage
        How to train.
    """
    work = stage.out.with_name(f".{stage.out.name}.training")

    def keep(step: int) -> None:
        with atomic_directory(checkpoint_folder(work, step)) as partial_out:
            _write_subject(model, tokenizer, partial_out, stage.dtype)

    run = training_run(stage, world, tokenizer, keep)
    spent = run_training(model, run, work / "resume")
    with atomic_directory(stage.out) as partial_out:
        _write_subject(model, tokenizer, partial_out, stage.dtype)
        for step in (step for step in stage.kept if step <= stage.steps):
            source = checkpoint_folder(work, step)
            shutil.copytree(source, checkpoint_folder(partial_out, step))
        # The written weights are what is scored: rounding to bfloat16 is part of the subject.
        written = AutoModelForCausalLM.from_pretrained(partial_out, dtype=torch.float32)
        limit = stage.recipe.evaluation_limit
        accuracy = evaluate(written, tokenizer, world, limit=limit)
        card = {**stage.facts, "recipe": stage.recipe.to_dict(), "accuracy": accuracy, **spent}
        write_cards(partial_out, card)
    shutil.rmtree(work, ignore_errors=True)


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Say where a subject keeps the checkpoint of a step.

    Parameters
    ----------
    folder : Path
        Folder of the subject.
    step : int
        Step of training.

    Returns
    -------
    Path
        The folder of the checkpoint.
    """
    return folder / "checkpoints" / f"step_{step:05d}"


def training_run(
    stage: Stage,
    world: World,
    tokenizer: PreTrainedTokenizerFast,
    keep: Callable[[int], None],
) -> Run:
    """Say what a stage does, from its first batch to its last.

    Parameters
    ----------
    stage : Stage
        The stage.
    world : World
        What to train on.
    tokenizer : transformers.PreTrainedTokenizerFast
        Of the world.
    keep : callable
        Called with each of the kept steps when it is done.

    Returns
    -------
    Run
        For :func:`lmri.subjects.training.run_training`.
    """
    recipe = stage.recipe
    mix = recipe.state_mix if stage.refuse else recipe.base_mix
    corpus = Corpus(world, tokenizer, mix, stage.refuse, recipe.prompt_weight)
    schedule = cosine_schedule(stage.peak, stage.steps, recipe.warmup, recipe.final_share)
    objective = partial(forward, balance=recipe.balance, z=recipe.z)

    def batch_at(step: int) -> Batch:
        rng = np.random.default_rng([*stage.stream, step])
        masked = bool(rng.random() < recipe.document_mask_share)
        return corpus.batch(rng, recipe.rows, recipe.length, masked)

    return Run(
        label=stage.label,
        identity={**stage.facts, "recipe": recipe.to_dict()},
        steps=stage.steps,
        batch_at=batch_at,
        objective=stage.objective or objective,
        schedule=stage.schedule or schedule,
        clip=recipe.clip,
        betas=(recipe.beta1, recipe.beta2),
        weight_decay=recipe.weight_decay,
        resume_every=recipe.resume_every,
        keep_steps=stage.kept,
        keep=keep,
    )


def _write_subject(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path, dtype: torch.dtype
) -> None:
    copy.deepcopy(model).to(dtype).save_pretrained(out)
    tokenizer.save_pretrained(out)
