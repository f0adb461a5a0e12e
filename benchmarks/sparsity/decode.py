"""Time whole models that decode under plans, beside the same runtime that skips nothing.

``THREADS LAYERS BURSTS ROUNDS`` builds a random model of the shape of Llama (bfloat16, hidden size
2048, 8192 neurons a layer, a vocabulary of 32,000), lets each plan decode in turn, one token at a
time after a prompt, and prints JSON in its last line. Weights take 2.4 GB with 16 layers, far more
than a cache holds.

The plans: TEAL (the inputs of every projection cut at their median), CATS (neurons cut at the
median of the gate), and a fifth of all neurons kept; each beside itself at 0 %, and all beside
transformers without us.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.rows import Row, cheaper
from lmri.anatomy.linears import linears, mlps
from lmri.sparse.plan import SparsePlan
from lmri.sparse.rules import InputThreshold, KeptNeurons, NeuronThreshold, Rule
from lmri.sparse.runtime import sparse

HIDDEN, NEURONS, HEADS, VOCABULARY = 2048, 8192, 16, 32_000
LAYERS = 16
PROMPT = 16
BURST = 4
"""Tokens that are timed together."""

CALIBRATION = 128
"""Tokens from which thresholds are taken."""

SHARE = 0.85
"""Of the ideal: bytes of the model over bytes read."""

PLANS = {"TEAL 50 %": "TEAL 0 %", "CATS 50 %": "CATS 0 %", "20 % of neurons kept": "all kept"}
"""Plans, and the same that skip nothing."""


def whole_model(rounds: int, bursts: int = 6, threads: int = 2) -> Iterator[Row]:
    """Compare decoding under plans with the same runtime at 0 %, and with transformers.

    Parameters
    ----------
    rounds : int
        Rounds, the first of which does not count for plans.
    bursts : int
        Bursts of tokens that are decoded a round; the best of all counts.
    threads : int
        Threads of torch.

    Yields
    ------
    Row
        How many times cheaper a plan is than the same at 0 %, by CPU time, which decides, and on
        the clock, printed; then the cheapest of the plans at 0 % against transformers.
    """
    measured = _measured(threads, LAYERS, bursts, rounds)
    for clock, unit in (("cpu", "CPU ms a token"), ("wall", "ms a token")):
        least = {name: 1e3 * min(own) / BURST for name, own in measured[clock].items()}
        for name, same in PLANS.items():
            ideal = measured["bytes"] / measured["read"][name]
            row = cheaper(f"decode: {name}, against 0 %", least[name], least[same], 0.0, unit)
            held = clock == "wall" or row.ratio >= SHARE * ideal
            bar = "none: printed" if clock == "wall" else f"at least {SHARE:g} of {ideal:.2f}"
            yield replace(row, bar=bar, status="held" if held else "failed")
        dense = min(least[same] for same in PLANS.values())
        figure = "decode: 0 %, against transformers"
        yield replace(cheaper(figure, dense, least["transformers"], 0, unit), bar="none: printed")


def measure(threads: int, layers: int, bursts: int, rounds: int) -> dict[str, object]:
    """Let every plan decode in turn.

    Parameters
    ----------
    threads : int
        Threads of torch.
    layers : int
        Blocks of the model.
    bursts : int
        Bursts of tokens that are decoded a round.
    rounds : int
        Rounds, 2 at least: in the first it is counted what plans read.

    Returns
    -------
    dict
        ``bytes`` one token reads in the dense model; ``read`` by plan, bytes one token reads;
        ``cpu`` and ``wall``, seconds of every burst by plan; ``backend``.
    """
    torch.set_num_threads(threads)
    model = _model(layers)
    plans = _plans(model)
    spent: dict[str, dict[str, list[float]]] = {"cpu": {}, "wall": {}}
    read, backend, size = {}, "", 0
    with torch.inference_mode():
        for turn in range(rounds):
            for name, plan in plans.items():
                count = turn == 0 and plan is not None
                under = nullcontext() if plan is None else sparse(model, plan, "cpu", count=count)
                with under as session:
                    timed = _decode(model, 1 if count else bursts)
                for clock, seconds in zip(("cpu", "wall"), timed, strict=True):
                    # A round that counts what is read is slower.
                    spent[clock].setdefault(name, []).extend([] if count else seconds)
                if count:
                    total, backend = session.counts.total("decode"), session.backend
                    size = 2 * total.model
                    read[name] = size - total.bytes_saved / total.tokens
    return {"bytes": size, "read": read, "backend": backend} | spent


def _decode(model: nn.Module, bursts: int) -> tuple[list[float], list[float]]:
    """Seconds of every burst after a prompt and one token: of the processors, and on the clock."""
    out = model(torch.arange(PROMPT)[None], use_cache=True, logits_to_keep=1)
    past = out.past_key_values
    out = model(out.logits[:, -1:].argmax(-1), past_key_values=past)
    cpu, wall = [time.process_time()], [time.perf_counter()]
    for _ in range(bursts):
        for _ in range(BURST):
            out = model(out.logits[:, -1:].argmax(-1), past_key_values=past)
        cpu.append(time.process_time())
        wall.append(time.perf_counter())
    between = ([b - a for a, b in pairwise(clock)] for clock in (cpu, wall))
    return tuple(between)


def _model(layers: int) -> nn.Module:
    config = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=NEURONS,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        vocab_size=VOCABULARY,
        tie_word_embeddings=False,
        dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        return LlamaForCausalLM(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def _plans(model: nn.Module) -> dict[str, SparsePlan | None]:
    inputs, gates = _calibrate(model)
    layers = mlps(model)

    def plan(rules: list[Rule]) -> SparsePlan:
        return SparsePlan("benchmark", "", tuple(rules), dense_prefill=True)

    def teal(scale: float) -> list[Rule]:
        return [InputThreshold(*place, scale * limit) for place, limit in inputs.items()]

    def cats(scale: float) -> list[Rule]:
        return [NeuronThreshold(layer, "dense", scale * limit) for layer, limit in gates.items()]

    def kept(count: int) -> list[Rule]:
        chosen = tuple(range(0, NEURONS, NEURONS // count))[:count]
        return [KeptNeurons(layer, "dense", chosen) for layer in layers]

    return {
        "transformers": None,
        "TEAL 0 %": plan(teal(0.0)),
        "TEAL 50 %": plan(teal(1.0)),
        "CATS 0 %": plan(cats(0.0)),
        "CATS 50 %": plan(cats(1.0)),
        "all kept": plan(kept(NEURONS)),
        "20 % of neurons kept": plan(kept(NEURONS // 5)),
    }


def _calibrate(model: nn.Module) -> tuple[dict[tuple[int, str], Tensor], dict[int, Tensor]]:
    """Medians of what projections read and of what gates give."""
    inputs: dict[tuple[int, str], Tensor] = {}
    gates: dict[int, Tensor] = {}
    hooks = []
    for layer, found in linears(model).items():
        for name, part in found.items():

            def read(module: nn.Module, given: tuple, place: tuple = (layer, name)) -> None:
                inputs[place] = given[0].float().abs().median()

            hooks.append(part.module.register_forward_pre_hook(read))
        mlp = mlps(model)[layer]["dense"]

        def made(module: nn.Module, given: tuple, output: Tensor, layer: int = layer) -> None:
            gates[layer] = output.float().abs().median()

        hooks.append(mlp.activation.register_forward_hook(made))
    with torch.inference_mode():
        model(torch.randint(0, VOCABULARY, (1, CALIBRATION)), logits_to_keep=1)
    for hook in hooks:
        hook.remove()
    return inputs, gates


def _measured(*sizes: int) -> dict:
    command = [sys.executable, "-m", "benchmarks.sparsity.decode", *map(str, sizes)]
    threads = str(sizes[0])
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    measured = json.loads(done.stdout.splitlines()[-1])
    if measured["backend"] != "cpu":
        sys.exit("The kernels could not be built: there is nothing to measure.")
    return measured


def main(*sizes: str) -> int:
    """Run what the command line names and print what it returns."""
    print(json.dumps(measure(*map(int, sizes))))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
