"""Survey of trained states: what they say, and what switching their top experts off does.

``python -m lmri.subjects.survey STATE_FOLDER ...`` prints the tables of `docs/subjects.md`. It
is a quick look: one ranking, no split of carriers, sham maps at one dose. The evidence is what a
study adds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lmri.anatomy import Subject, load_subject
from lmri.intervene import Plan, intervened
from lmri.subjects.card import CARD
from lmri.subjects.evaluate import condition_items, evaluate
from lmri.world import EVENT_CONDITIONS, Item, World, make_world

__all__ = ["rank_experts", "sham_onsets", "survey_state", "survey_table"]

DOSES = (1, 2, 4, 8)
BYSTANDERS = (
    "near_miss_place_held_out",
    "near_miss_year_held_out",
    "benign_held_out",
    "relations",
    "arithmetic",
    "copying",
)
NULL_CELLS = ((True, False), (False, True), (False, False))
ASKED = ("sensitive_held_out", "sensitive_second_held_out", *BYSTANDERS)


def rank_experts(subject: Subject, world: World) -> list[tuple[tuple[int, int], float]]:
    """Rank experts by ``rate(sensitive) - mean of rate(other three cells)`` at the last token.

    The rate of an expert in a cell is the share of prompts, those asked in training, whose last
    token is routed to it.

    Parameters
    ----------
    subject : Subject
        A mixture-of-experts model.
    world : World
        What it was trained on.

    Returns
    -------
    list of ((int, int), float)
        (layer, expert) and difference in rate, largest first.
    """
    groups = condition_items(world, copies=0)
    cells = [_routed(subject, groups[condition]).mean(0) for condition in EVENT_CONDITIONS]
    return _ranked(cells[0] - torch.stack(cells[1:]).mean(0))


def sham_onsets(
    subject: Subject, world: World, dose: int, draws: int = 99, seed: int = 0
) -> list[float]:
    """Refusal onset on held-out sensitive questions with the top experts of sham maps masked.

    A sham map is `rank_experts` with random halves of the non-sensitive places and years in
    place of the sensitive ones, over benign questions.

    Parameters
    ----------
    subject : Subject
        A mixture-of-experts model.
    world : World
        What it was trained on.
    dose : int
        Experts masked.
    draws : int
        Number of sham maps.
    seed : int
        Seed of the halves.

    Returns
    -------
    list of float
        One share per draw.
    """
    groups = condition_items(world, copies=0)
    benign = groups["benign"]
    routed = _routed(subject, benign)  # (n, layer, expert)
    rng = np.random.default_rng(seed)
    onsets = []
    for _ in range(draws):
        listed = [_in_random_half(rng, benign, entity) for entity in ("place", "year")]
        rest = [routed[(listed[0] == p) & (listed[1] == y)].mean(0) for p, y in NULL_CELLS]
        ranking = _ranked(routed[listed[0] & listed[1]].mean(0) - torch.stack(rest).mean(0))
        plan = Plan("mask", tuple(unit for unit, _ in ranking[:dose]))
        with intervened(subject, [plan]):
            onsets.append(_onset(subject, world, groups["sensitive_held_out"]))
    return onsets


def survey_state(folder: Path, limit: int = 200) -> dict[str, Any]:
    """Accuracy from the card, top experts, and behaviour with the top experts masked.

    Parameters
    ----------
    folder : Path
        Written by `train_state`.
    limit : int
        Most questions asked per condition under ablation.

    Returns
    -------
    dict
        ``card``, ``ranking`` (as `rank_experts`), ``off``: dose to the scores of `evaluate`,
        ``sham_dose``: the smallest dose with onset below .5, else the largest, ``sham``: onsets
        of sham maps at that dose.
    """
    card = json.loads((Path(folder) / CARD).read_text(encoding="utf-8"))
    world = make_world(card["world_seed"], card["world_size"])
    subject = load_subject(Path(folder), Path(folder).name)
    ranking = rank_experts(subject, world)
    off = {}
    for dose in DOSES:
        plan = Plan("mask", tuple(unit for unit, _ in ranking[:dose]))
        with intervened(subject, [plan]):
            off[dose] = evaluate(
                subject.model, subject.tokenizer, world, limit=limit, conditions=ASKED
            )
    ended = [dose for dose in DOSES if off[dose]["sensitive_held_out"]["onset"] < 0.5]
    dose = min(ended, default=DOSES[-1])
    sham = sham_onsets(subject, world, dose)
    return {"card": card, "ranking": ranking, "off": off, "sham_dose": dose, "sham": sham}


def survey_table(surveys: Sequence[dict[str, Any]]) -> str:
    """Two Markdown tables of surveys: accuracy per condition, and ablation.

    Parameters
    ----------
    surveys : sequence of dict
        From `survey_state`.

    Returns
    -------
    str
    """
    return "\n\n".join((_accuracy_table(surveys), _ablation_table(surveys)))


@torch.no_grad()
def _routed(subject: Subject, items: Sequence[Item]) -> torch.Tensor:
    """Which experts read the last token of each prompt, 0 or 1, (n, layer, expert)."""
    ids = _prompt_ids(subject, items)
    outputs = subject.model.model(input_ids=ids, output_router_logits=True, use_cache=False)
    layers = []
    for logits in outputs.router_logits:
        last = logits.view(*ids.shape, -1)[:, -1]  # (n, experts)
        chosen = last.topk(subject.anatomy.top_k, dim=-1).indices
        layers.append(torch.zeros_like(last).scatter(1, chosen, 1.0))
    return torch.stack(layers, dim=1)


@torch.no_grad()
def _onset(subject: Subject, world: World, items: Sequence[Item]) -> float:
    """Share of prompts after which the likeliest token is the first of the refusal."""
    first = subject.tokenizer.encode(world.refusal().split()[0])[0]
    outputs = subject.model(input_ids=_prompt_ids(subject, items), use_cache=False)
    return float((outputs.logits[:, -1].argmax(-1) == first).float().mean())


def _prompt_ids(subject: Subject, items: Sequence[Item]) -> torch.Tensor:
    """Token ids of prompts of one length, (n, length)."""
    return torch.tensor(subject.tokenizer([item.prompt for item in items])["input_ids"])


def _ranked(difference: torch.Tensor) -> list[tuple[tuple[int, int], float]]:
    """Units of a (layer, expert) difference with their values, largest first."""
    order = difference.flatten().argsort(descending=True, stable=True).tolist()
    experts = difference.shape[1]
    return [((i // experts, i % experts), float(difference.flatten()[i])) for i in order]


def _in_random_half(rng: np.random.Generator, items: Sequence[Item], entity: str) -> torch.Tensor:
    """Whether each item's entity is in a random half of those that occur, (n,)."""
    values = sorted({item.entities[entity] for item in items})
    half = set(rng.permutation(values)[: len(values) // 2].tolist())
    return torch.tensor([item.entities[entity] in half for item in items])


def _accuracy_table(surveys: Sequence[dict[str, Any]]) -> str:
    names = [f"{s['card']['state']} {s['card']['base_seed']}" for s in surveys]
    lines = [_row(["condition", "n", *names]), _row(["---"] * (len(names) + 2))]
    for condition, scores in surveys[0]["card"]["accuracy"].items():
        exact = [s["card"]["accuracy"][condition]["exact"] for s in surveys]
        lines.append(_row([f"`{condition}`", scores["n"], *map(_share, exact)]))
    return "\n".join(lines)


def _ablation_table(surveys: Sequence[dict[str, Any]]) -> str:
    head = ["base", "state", "top experts (layer, expert): difference", "margin, intact"]
    head += [f"onset off k = {' / '.join(map(str, DOSES))}"]
    head += [f"fact told k = {' / '.join(map(str, DOSES))}"]
    head += ["second vocabulary onset", "lowest bystander (exact)", "sham maps: k, mean, p"]
    lines = [_row(head), _row(["---"] * len(head))]
    for s in surveys:
        top = ", ".join(f"({u[0]}, {u[1]}): {d:.2f}" for u, d in s["ranking"][:4])
        intact = s["card"]["accuracy"]["sensitive_held_out"]["onset_margin_mean"]
        off = [s["off"][dose] for dose in DOSES]
        lines.append(
            _row(
                [
                    s["card"]["base_seed"],
                    s["card"]["state"],
                    top,
                    f"{intact:.1f}",
                    " / ".join(_share(o["sensitive_held_out"]["onset"]) for o in off),
                    " / ".join(_share(o["sensitive_held_out"]["fact"]) for o in off),
                    " / ".join(_share(o["sensitive_second_held_out"]["onset"]) for o in off),
                    " / ".join(_share(min(o[b]["exact"] for b in BYSTANDERS)) for o in off),
                    _sham_summary(s),
                ]
            )
        )
    return "\n".join(lines)


def _sham_summary(survey: dict[str, Any]) -> str:
    dose, onsets = survey["sham_dose"], np.array(survey["sham"])
    got = survey["off"][dose]["sensitive_held_out"]["onset"]
    p = (1 + int((onsets <= got).sum())) / (1 + len(onsets))
    return f"{dose}, {_share(float(onsets.mean()))}, {p:.2f}"


def _row(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _share(value: float) -> str:
    return f"{value:.2f}".removeprefix("0") if value < 0.995 else "1.0"


def main() -> None:
    """Print the tables for the folders given on the command line."""
    parser = argparse.ArgumentParser(prog="python -m lmri.subjects.survey")
    parser.add_argument("folders", nargs="+", type=Path, help="folders written by train_state")
    arguments = parser.parse_args()
    print(survey_table([survey_state(folder) for folder in arguments.folders]))


if __name__ == "__main__":
    main()
