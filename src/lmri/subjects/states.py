"""The two training stages: a base that answers everything, and its states that refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from lmri.checks import check_choice
from lmri.errors import SubjectError
from lmri.subjects.card import CARD, WEIGHTS, file_hash
from lmri.subjects.model import build_model
from lmri.subjects.progress import quiet_library
from lmri.subjects.recipe import Recipe
from lmri.subjects.stage import Stage, run_stage
from lmri.subjects.training import Objective, Schedule, threads
from lmri.world import World, build_tokenizer, make_world

__all__ = ["STATES", "base_stage", "train_base", "train_state"]

STATES = ("localised", "distributed")


def train_base(
    out: Path,
    *,
    base_seed: int,
    world_seed: int,
    recipe: Recipe,
    world_size: str = "default",
    objective: Objective | None = None,
    schedule: Schedule | None = None,
) -> None:
    """Stage 1: train a base that answers every question with its fact.

    Deterministic by the seeds, the recipe and its number of threads. A run that was killed is
    resumed by calling it again, and ends in the same bits.

    Parameters
    ----------
    out : Path
        Folder to write, in one step at the end: the base in Hugging Face layout (safetensors,
        float32), ``card.json``, ``MODEL_CARD.md``, and ``checkpoints/step_<steps>/`` in the
        same layout. Until then ``.<name>.training`` beside it holds what a resumed run needs.
    base_seed : int
        Seed of the weights and of the order of documents.
    world_seed : int
        Seed of the world.
    recipe : Recipe
        Hyper-parameters.
    world_size : str
        Size of the world.
    objective : callable, optional
        Losses of the model on a batch; by default `lmri.subjects.model.forward` with the
        recipe's weights.
    schedule : callable, optional
        Learning rate of a step; by default a cosine with the recipe's peak.

    Raises
    ------
    LmriError
        If the world's size is unknown.
    """
    world = make_world(world_seed, world_size)
    tokenizer = build_tokenizer(world)
    stage = base_stage(
        Path(out),
        base_seed=base_seed,
        world=world,
        recipe=recipe,
        objective=objective,
        schedule=schedule,
    )
    with threads(recipe.threads), quiet_library():
        run_stage(build_model(recipe, len(tokenizer), base_seed), tokenizer, world, stage)


def base_stage(
    out: Path,
    *,
    base_seed: int,
    world: World,
    recipe: Recipe,
    objective: Objective | None = None,
    schedule: Schedule | None = None,
) -> Stage:
    """Say how a base is trained.

    Parameters
    ----------
    out : Path
        Folder to write.
    base_seed, recipe, objective, schedule
        As for :func:`train_base`.
    world : World
        What to train on.

    Returns
    -------
    Stage
        The stage.
    """
    return Stage(
        out=out,
        label=f"base {base_seed}",
        facts={
            "kind": "base",
            "state": "base",
            "base_seed": base_seed,
            "seed": base_seed,
            "world_seed": world.seed,
            "world_size": world.size,
        },
        stream=(base_seed, 1),
        refuse=False,
        steps=recipe.base_steps,
        peak=recipe.base_learning_rate,
        kept=recipe.base_checkpoints,
        dtype=torch.float32,
        recipe=recipe,
        objective=objective,
        schedule=schedule,
    )


def train_state(
    base: Path,
    out: Path,
    *,
    state: str,
    seed: int,
    recipe: Recipe,
    objective: Objective | None = None,
    schedule: Schedule | None = None,
) -> None:
    """Stage 2: teach a base to refuse sensitive questions.

    Parameters
    ----------
    base : Path
        Folder written by `train_base`.
    out : Path
        Folder to write, in one step at the end: the state in Hugging Face layout (safetensors,
        bfloat16), ``card.json``, ``MODEL_CARD.md``. Resumed as in `train_base`.
    state : {"localised", "distributed"}
        "localised" trains only the parameters of the MoE blocks (those with "mlp" in their
        name), so that refusal can only live there; "distributed" trains all parameters.
    seed : int
        Seed of the order of documents.
    recipe : Recipe
        Hyper-parameters; the sizes of the model are the base's.
    objective, schedule : callable, optional
        As in `train_base`.

    Raises
    ------
    SubjectError
        If the state is unknown or `base` was not written by `train_base`.
    """
    check_choice(state, STATES, "state", "train_state", SubjectError)
    origin = _read_base_card(Path(base))
    world = make_world(origin["world_seed"], origin["world_size"])
    stage = Stage(
        out=Path(out),
        label=f"{state} on base {origin['base_seed']}",
        facts={
            "kind": "state",
            "state": state,
            "base_seed": origin["base_seed"],
            "seed": seed,
            "world_seed": world.seed,
            "world_size": world.size,
            "base_sha256": file_hash(Path(base) / WEIGHTS),
        },
        stream=(seed, 2),
        refuse=True,
        steps=recipe.state_steps,
        peak=recipe.state_learning_rate,
        kept=recipe.state_checkpoints,
        dtype=torch.bfloat16,
        recipe=recipe,
        objective=objective,
        schedule=schedule,
    )
    with threads(recipe.threads), quiet_library():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(state == "distributed" or "mlp" in name)
        run_stage(model, build_tokenizer(world), world, stage)


def _read_base_card(base: Path) -> dict[str, Any]:
    path = base / CARD
    if not path.is_file():
        raise SubjectError(
            f"The 'base' of train_state must be a folder written by train_base, with a {CARD}. "
            f"Got {str(base)!r}."
        )
    card = json.loads(path.read_text(encoding="utf-8"))
    check_choice(card["kind"], ("base",), "kind", str(path), SubjectError)
    return card
