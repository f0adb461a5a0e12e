"""A resumable training loop: the same bits with or without an interruption."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from lmri.store.atomic import atomic_directory
from lmri.subjects.corpus import Batch
from lmri.subjects.model import Losses
from lmri.subjects.progress import Progress

__all__ = ["Objective", "Run", "Schedule", "cosine_schedule", "run_training", "threads"]

Objective = Callable[[PreTrainedModel, Batch], Losses]
Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Run:
    """What a training run does.

    Attributes
    ----------
    label : str
        For the progress bar.
    identity : mapping
        JSON types that determine the result; a saved state of another identity is not resumed.
    steps : int
        Steps in all.
    batch_at : callable
        Batch of a step; depends on nothing but the step, so that a run can resume anywhere.
    objective : callable
        Losses of the model on a batch.
    schedule : callable
        Learning rate of a step.
    clip : float
        Largest norm of the gradient.
    betas : tuple of float
        Of AdamW.
    weight_decay : float
        Of AdamW, on tensors with at least two axes.
    resume_every : int
        Steps between two saved states.
    keep_steps : tuple of int
        After which steps to call `keep`; 0 is before the first.
    keep : callable
        Called with the number of steps done.
    """

    label: str
    identity: Mapping[str, Any]
    steps: int
    batch_at: Callable[[int], Batch]
    objective: Objective
    schedule: Schedule
    clip: float
    betas: tuple[float, float]
    weight_decay: float
    resume_every: int
    keep_steps: tuple[int, ...]
    keep: Callable[[int], None]


def cosine_schedule(peak: float, steps: int, warmup: int, final_share: float) -> Schedule:
    """Learning rate: linear warm-up, then a cosine from `peak` to `final_share * peak`.

    Parameters
    ----------
    peak : float
        Largest learning rate.
    steps : int
        Steps in all.
    warmup : int
        Steps of warm-up.
    final_share : float
        Last learning rate as a share of the peak.

    Returns
    -------
    callable
        Step (from 0) to learning rate.
    """

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        return peak * (final_share + (1 - final_share) * (1 + math.cos(math.pi * done)) / 2)

    return rate


def run_training(model: PreTrainedModel, run: Run, state: Path) -> dict[str, Any]:
    """Train the parameters that require gradients, in place.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Frozen parameters stay as they are, to the bit.
    run : Run
        What to do.
    state : Path
        Folder of the state to resume from: read when it is there and of the same identity,
        rewritten every `run.resume_every` steps. The caller removes it.

    Returns
    -------
    dict
        ``seconds`` and ``cpu_seconds`` over all interrupted parts, and ``losses``, one row
        [step, learning rate, text loss, balance, z] every 10 steps.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimiser = _make_optimiser(trained, run)
    log = _resume(model, trained, optimiser, run, state)
    clock = _Clock(log)
    progress = Progress(run.label, run.steps, run.batch_at(0).input_ids.numel(), log["step"])
    if log["step"] == 0 and 0 in run.keep_steps:
        run.keep(0)
    model.train()
    for step in range(log["step"], run.steps):
        losses = _step(model, trained, optimiser, run, step)
        log["step"] = step + 1
        if step % 10 == 0 or step + 1 == run.steps:
            terms = (losses.text, losses.balance, losses.z)
            log["losses"].append([step, run.schedule(step), *(term.item() for term in terms)])
        progress.update(step + 1, losses.text.item())
        if step + 1 in run.keep_steps:
            run.keep(step + 1)
        if (step + 1) % run.resume_every == 0:
            clock.stamp(log)
            _save(model, trained, optimiser, log, run, state)
    progress.close()
    clock.stamp(log)
    model.eval()
    return {key: log[key] for key in ("seconds", "cpu_seconds", "losses")}


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run the block with a number of torch threads, then restore the former number.

    Parameters
    ----------
    count : int
        The order of floating-point sums, and so the bits of a result, depends on it.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Clock:
    """Wall and processor time, continued over interruptions."""

    def __init__(self, log: dict[str, Any]) -> None:
        self._wall = time.monotonic() - log["seconds"]
        self._processor = time.process_time() - log["cpu_seconds"]

    def stamp(self, log: dict[str, Any]) -> None:
        log["seconds"] = time.monotonic() - self._wall
        log["cpu_seconds"] = time.process_time() - self._processor


def _step(
    model: PreTrainedModel,
    trained: dict[str, torch.nn.Parameter],
    optimiser: torch.optim.Optimizer,
    run: Run,
    step: int,
) -> Losses:
    for group in optimiser.param_groups:
        group["lr"] = run.schedule(step)
    losses = run.objective(model, run.batch_at(step))
    optimiser.zero_grad(set_to_none=True)
    losses.total.backward()
    torch.nn.utils.clip_grad_norm_(list(trained.values()), run.clip)
    optimiser.step()
    return losses


def _make_optimiser(trained: dict[str, torch.nn.Parameter], run: Run) -> torch.optim.AdamW:
    matrices = [p for p in trained.values() if p.ndim >= 2]
    vectors = [p for p in trained.values() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": run.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], betas=run.betas, fused=True)


def _save(
    model: PreTrainedModel,
    trained: dict[str, torch.nn.Parameter],
    optimiser: torch.optim.Optimizer,
    log: dict[str, Any],
    run: Run,
    state: Path,
) -> None:
    """Save everything a resumed run needs; safetensors and JSON only."""
    tensors = {f"model.{name}": p.detach().contiguous() for name, p in trained.items()}
    for name, parameter in trained.items():
        for key, value in optimiser.state[parameter].items():
            tensors[f"optimiser.{key}.{name}"] = value.contiguous()
    with atomic_directory(state) as partial:
        save_file(tensors, partial / "state.safetensors")
        text = json.dumps({"identity": dict(run.identity), "log": log})
        (partial / "state.json").write_text(text, encoding="utf-8")


def _resume(
    model: PreTrainedModel,
    trained: dict[str, torch.nn.Parameter],
    optimiser: torch.optim.Optimizer,
    run: Run,
    state: Path,
) -> dict[str, Any]:
    """Restore a saved state of the same run; otherwise begin a new log."""
    fresh = {"step": 0, "seconds": 0.0, "cpu_seconds": 0.0, "losses": []}
    if not (state / "state.json").exists():
        return fresh
    saved = json.loads((state / "state.json").read_text(encoding="utf-8"))
    # Compared as JSON: tuples of a recipe have become lists.
    if saved["identity"] != json.loads(json.dumps(dict(run.identity))):
        return fresh
    tensors = load_file(state / "state.safetensors")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(tensors[f"model.{name}"])
            optimiser.state[parameter] = {
                key: tensors[f"optimiser.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
            }
    return saved["log"]
