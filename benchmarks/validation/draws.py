"""Control draws on the embedded subject: ours, and one after another; run in a process of its own.

``compare DRAWS TRIALS DOSE...`` runs both sides in turn and prints one line of JSON. ``cost SCALE
DRAWS TRIALS DOSE...`` runs ours alone and prints its CPU time and the most memory it ever held.

The draws are sham maps of the embedded subject ``localised``: the selection of the refusal contrast
at the last prompt token, re-run on random splits of benign places and years. Many of the smallest
sets are the same, which is known only once they are compared; ``random`` draws are sets of experts
drawn at random, of which hardly two are.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.memory import peak_memory
from lmri.anatomy import Subject, load_subject, render_trials, routers
from lmri.config import ContrastOptions, SplitOptions, TaskOptions, WorldOptions
from lmri.intervene import Plan, Unit, feasible
from lmri.localise.activity import CountedRates
from lmri.localise.design import contrast_design
from lmri.localise.resonance import Cells
from lmri.localise.shams import sham_maps
from lmri.stimuli import make_stimuli
from lmri.subjects import install_embedded
from lmri.validate.arms import Arm, Bench

NEW_TOKENS = 8
ROWS = 1024
CARRIERS = ("place", "year")
CONTRAST = ContrastOptions(
    "refusal",
    "events",
    "hypothesis",
    target=("sensitive",),
    controls=("near_miss_place", "near_miss_year", "benign"),
    null_condition="benign",
)
LIMITS = {"log_probability": -100.0, "repeats": NEW_TOKENS}


@dataclass(frozen=True)
class Setting:
    """A subject, trials and draws.

    Attributes
    ----------
    subject : Subject
        The subject ``localised``.
    trials : DataFrame
        Sensitive trials of the evaluation split.
    draws : list of list of tuple of int
        Ranked experts of every control draw.
    doses : tuple of int
        How many of them are off.
    """

    subject: Subject
    trials: pd.DataFrame
    draws: list[list[Unit]]
    doses: tuple[int, ...]

    def arms(self) -> list[Arm]:
        """Every draw at every dose."""
        return [
            Arm("sham", "mask", dose, number, Plan("mask", tuple(units[:dose])))
            for number, units in enumerate(self.draws)
            for dose in self.doses
        ]


def prepare(folder: Path, kind: str, draws: int, trials: int, doses: Sequence[int]) -> Setting:
    """Load the subject and make trials and draws.

    Parameters
    ----------
    folder : Path
        Where the subject is put.
    kind : str
        ``sham`` or ``random``.
    draws, trials : int
        How many.
    doses : sequence of int
        Experts that are off.

    Returns
    -------
    Setting
        All of it.
    """
    install_embedded("localised", folder / "model")
    subject = load_subject(folder / "model", "localised")
    table = make_stimuli(
        task="events",
        options=TaskOptions("events", "world"),
        splits=SplitOptions(0.34, 0.16, 0.5),
        world=WorldOptions(),
        seed=0,
    )
    target = table[(table["condition"] == "sensitive") & (table["split"] == "evaluation")]
    if len(target) < trials:
        raise SystemExit(f"The evaluation split must have {trials} trials. Got {len(target)}.")
    # Spread over the carriers, which the table is sorted by.
    chosen = np.linspace(0, len(target) - 1, trials).round().astype(int)
    selection = table[table["split"] == "selection"].reset_index(drop=True)
    make = _sham_draws if kind == "sham" else _random_draws
    sets = make(subject, selection, draws, max(doses))
    return Setting(subject, target.iloc[chosen].reset_index(drop=True), sets, tuple(doses))


def _random_draws(
    subject: Subject, selection: pd.DataFrame, draws: int, most: int
) -> list[list[Unit]]:
    experts, rng = subject.anatomy.experts, np.random.default_rng(0)
    total = experts * len(subject.anatomy.moe_layers)
    orders = (rng.permutation(total)[:most] for _ in range(draws))
    return [[divmod(int(i), experts) for i in order] for order in orders]


def _sham_draws(
    subject: Subject, selection: pd.DataFrame, draws: int, most: int
) -> list[list[Unit]]:
    design = contrast_design(CONTRAST, selection, CARRIERS)
    return sham_maps(
        CountedRates(_cells(subject, selection)),
        design,
        selection,
        CONTRAST.sham_condition,
        draws=draws,
        most=most,
        seed=0,
        usable=lambda units: feasible(Plan("mask", tuple(units)), subject.anatomy),
    )


def _cells(subject: Subject, trials: pd.DataFrame) -> Cells:
    """Experts chosen at the last prompt token, a trial being a combination of carriers."""
    prompts = [prompt.ids for prompt in render_trials(subject.tokenizer, trials, None)]
    ids, layers = torch.tensor(prompts), subject.anatomy.moe_layers
    counts = np.zeros((len(trials), len(layers), subject.anatomy.experts), dtype=np.int64)

    def count(place: int, module: torch.nn.Module, arguments: tuple, output: tuple) -> None:
        last = output[2].view(*ids.shape, -1)[:, -1].numpy()  # (trials, top_k)
        np.put_along_axis(counts[:, place], last, 1, axis=1)

    with ExitStack() as stack, torch.inference_mode():
        for place, layer in enumerate(layers):
            hook = routers(subject.model)[layer].register_forward_hook(partial(count, place))
            stack.callback(hook.remove)
        subject.model(input_ids=ids, use_cache=False, logits_to_keep=1)
    ones = np.ones(len(trials), dtype=np.int64)
    columns = [*(f"carrier_{name}" for name in CARRIERS), "condition"]
    return Cells(trials[columns].reset_index(drop=True), counts, ones, ones, layers)


def two_stages(setting: Setting) -> None:
    """Score the onset under every draw, and free responses without and under the first draw."""
    bench = Bench(setting.subject, ROWS, NEW_TOKENS, LIMITS)
    arms = setting.arms()
    bench.quick(arms, setting.trials, "refusal_onset")
    bench.run([Arm("intact", "none"), *arms[: len(setting.doses)]], setting.trials)


def free_responses(setting: Setting) -> None:
    """Score free responses under every draw."""
    bench = Bench(setting.subject, ROWS, NEW_TOKENS, LIMITS)
    bench.run(setting.arms(), setting.trials)


def one_after_another(setting: Setting) -> None:
    """Generate with transformers under hooks that mask experts, one draw after another."""
    subject = setting.subject
    prompts = render_trials(subject.tokenizer, setting.trials, None)
    ids = torch.tensor([prompt.ids for prompt in prompts])
    for arm in setting.arms():
        with masked(subject, arm.plan.units), torch.inference_mode():
            subject.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=subject.tokenizer.pad_token_id,
            )


@contextmanager
def masked(subject: Subject, units: Sequence[Unit]) -> Iterator[None]:
    """Mask experts by forward hooks of the routers, as anyone would write them.

    Parameters
    ----------
    subject : Subject
        An OLMoE.
    units : sequence of tuple of int
        Layers and experts.
    """

    def choose(off: list[int], router: torch.nn.Module, arguments: tuple, output: tuple) -> tuple:
        logits, weights, _ = output
        logits = logits.clone()
        logits[:, off] = float("-inf")
        shares, indices = torch.softmax(logits, dim=-1, dtype=torch.float).topk(router.top_k)
        return logits, shares.to(weights.dtype), indices

    with ExitStack() as stack:
        for layer, router in routers(subject.model).items():
            off = [expert for own, expert in units if own == layer]
            if off:
                hook = router.register_forward_hook(partial(choose, off))
                stack.callback(hook.remove)
        yield


def timed(work: Callable[[Setting], None], setting: Setting) -> dict[str, float]:
    """Measure CPU time of the process and time on the clock, in seconds."""
    cpu, clock = _cpu(), time.perf_counter()
    work(setting)
    return {"cpu": _cpu() - cpu, "wall": time.perf_counter() - clock}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run a command and print one line of JSON."""
    command, kind, *numbers = sys.argv[1:]
    draws, trials, *doses = map(int, numbers)
    with tempfile.TemporaryDirectory() as folder:
        setting = prepare(Path(folder), kind, draws, trials, doses)
        small = Setting(setting.subject, setting.trials, setting.draws[:3], setting.doses)
        sides = {"two_stages": two_stages}
        if command == "compare":
            sides |= {"free": free_responses, "theirs": one_after_another}
        for work in sides.values():
            work(small)  # what is done once in a process counts for nobody
        measured = {name: timed(work, setting) for name, work in sides.items()}
    sets = {(arm.dose, frozenset(arm.plan.units)) for arm in setting.arms()}
    print(json.dumps({**measured, "different": len(sets), "peak": peak_memory()}))


if __name__ == "__main__":
    main()
