"""The positive control: an intervention that is known to move the behaviour.

An experiment that finds nothing refutes only if it could have found something. The direction is
the interaction of the condition means of the residual stream at the last prompt token after the
last block, estimated on selection trials; setting the state along it to that of the controls should
end the behaviour on the evaluation trials. A random direction is treated alike beside it.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from lmri.anatomy import Subject, blocks, equal_length_batches, prompt_room, render_trials
from lmri.intervene import most_new_tokens
from lmri.validate.parts import condition_trials


def mean_difference(
    subject: Subject, finding: dict, stimuli: Path, rows: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Direction of the target in the residual stream at the last prompt token.

    ``v = mean(target) - mean(each control, averaged)``, in a crossed design
    ``v = target - place - year + benign``: what only the conjunction adds.

    Parameters
    ----------
    subject : Subject
        The subject, intact.
    finding : dict
        A testable finding.
    stimuli : Path
        Folder with ``<task>.parquet``.
    rows : int
        Rows per forward pass, at most.

    Returns
    -------
    direction : Tensor of shape (hidden,), float32
        The direction v.
    origin : Tensor of shape (hidden,), float32
        Mean state of the controls.
    """
    secondary = finding["secondary"]
    target, controls = secondary["target"], secondary["controls"]
    means = {
        condition: mean_state(
            subject,
            condition_trials(finding["task"], condition, stimuli, "selection"),
            rows,
            prompt_room(
                subject.model.config, most_new_tokens(subject, secondary["max_new_tokens"])
            ),
        )
        for condition in dict.fromkeys([*target, *controls, *(secondary["interaction"] or {})])
    }
    origin = sum(means[condition] for condition in controls) / len(controls)
    if secondary["interaction"]:
        direction = sum(weight * means[c] for c, weight in secondary["interaction"].items())
    else:
        direction = sum(means[condition] for condition in target) / len(target) - origin
    return direction.float(), origin.float()


@torch.inference_mode()
def mean_state(
    subject: Subject, trials: pd.DataFrame, rows: int, room: int | None = None
) -> torch.Tensor:
    """Mean residual after the last block at the last prompt token.

    Parameters
    ----------
    subject : Subject
        The subject.
    trials : DataFrame
        The trials.
    rows : int
        Rows per forward pass, at most.
    room : int, optional
        Tokens that a prompt may have; by default any number.

    Returns
    -------
    Tensor of shape (hidden,), float64
        The mean.
    """
    total = torch.zeros(subject.anatomy.hidden, dtype=torch.float64)

    def add(module: torch.nn.Module, arguments: tuple, output: torch.Tensor) -> None:
        total.add_(output[:, -1].double().sum(dim=0).cpu())

    prompts = [prompt.ids for prompt in render_trials(subject.tokenizer, trials, room)]
    hook = blocks(subject.model)[-1].register_forward_hook(add)
    try:
        for batch in equal_length_batches([len(prompt) for prompt in prompts], rows):
            ids = torch.tensor([prompts[row] for row in batch], device=subject.device)
            subject.model(input_ids=ids, use_cache=False, logits_to_keep=1)
    finally:
        hook.remove()
    return total / len(prompts)


def random_direction(subject: Subject, seed: int) -> torch.Tensor:
    """Draw a direction of the residual stream at random.

    Parameters
    ----------
    subject : Subject
        The subject.
    seed : int
        Seed of the draw.

    Returns
    -------
    Tensor of shape (hidden,), float32
        The direction.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(subject.anatomy.hidden, generator=generator)
