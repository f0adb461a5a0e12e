"""A base trained once more under other conditions, and looked at on the way; nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedModel

from lmri.subjects.card import CARD
from lmri.subjects.corpus import Batch
from lmri.subjects.model import Losses, build_model, forward
from lmri.subjects.recipe import Recipe
from lmri.subjects.stage import training_run
from lmri.subjects.states import base_stage
from lmri.subjects.training import run_training, threads
from lmri.world import build_tokenizer, make_world

__all__ = ["Training", "retrain_base", "training_of"]

Around = Callable[[PreTrainedModel, Batch], AbstractContextManager]
"""What is in force while a model reads a batch."""

See = Callable[[int, PreTrainedModel], None]
"""Gets the steps done and the model."""


@dataclass(frozen=True)
class Training:
    """How a base came about.

    Attributes
    ----------
    recipe : Recipe
        Hyper-parameters.
    base_seed : int
        Seed of its weights and of the order of documents.
    world_seed : int
        Seed of the world.
    world_size : str
        Size of the world.
    """

    recipe: Recipe
    base_seed: int
    world_seed: int
    world_size: str


def training_of(folder: Path) -> Training | None:
    """Read how a subject was trained.

    Parameters
    ----------
    folder : Path
        Folder of the subject.

    Returns
    -------
    Training or None
        None of a subject that is no finished base of the workflow.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        return None
    card = json.loads(path.read_text(encoding="utf-8"))
    if card["kind"] != "base":
        return None
    names = ("base_seed", "world_seed", "world_size")
    return Training(Recipe.from_dict(card["recipe"]), **{name: card[name] for name in names})


def retrain_base(
    training: Training, *, around: Around, steps: tuple[int, ...], see: See
) -> PreTrainedModel:
    """Train a base once more.

    With nothing in force it ends in the bits of :func:`lmri.subjects.train_base`.

    Parameters
    ----------
    training : Training
        Recipe and seeds.
    around : callable
        Of a model and a batch; entered around every forward pass of the training.
    steps : tuple of int
        Steps after which the model is seen; 0 is before the first.
    see : callable
        Gets the steps done and the model. It may run the model, and must not change it.

    Returns
    -------
    transformers.PreTrainedModel
        The finished base.
    """
    world = make_world(training.world_seed, training.world_size)
    tokenizer, recipe = build_tokenizer(world), training.recipe
    model = build_model(recipe, len(tokenizer), training.base_seed)

    def objective(model: PreTrainedModel, batch: Batch) -> Losses:
        with around(model, batch):
            return forward(model, batch, balance=recipe.balance, z=recipe.z)

    def keep(step: int) -> None:
        model.eval()
        see(step, model)
        model.train()

    with TemporaryDirectory() as folder, threads(recipe.threads):
        stage = base_stage(
            Path(folder) / "base",
            base_seed=training.base_seed,
            world=world,
            recipe=replace(recipe, base_checkpoints=tuple(steps)),
            objective=objective,
        )
        run_training(model, training_run(stage, world, tokenizer, keep), Path(folder) / "resume")
    return model
