"""Time whole models that decode under plans, beside the same runtime that skips nothing.

``THREADS LAYERS TOKENS ROUNDS`` builds a random model of the shape of Llama (bfloat16, hidden size
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

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.rows import Row
from lmri.anatomy.linears import linears, mlps
from lmri.sparse.plan import SparsePlan
from lmri.sparse.rules import InputThreshold, KeptNeurons, NeuronThreshold, Rule
from lmri.sparse.runtime import sparse

HIDDEN, NEURONS, HEADS, VOCABULARY = 2048, 8192, 16, 32_000
LAYERS = 16
PROMPT = 16
CALIBRATION = 128
"""Tokens from which thresholds are taken."""

SHARE = 0.85
"""Of the ideal: bytes of the model over bytes read."""

PLANS = {"TEAL 50 %": "TEAL 0 %", "CATS 50 %": "CATS 0 %", "20 % of neurons kept": "all kept"}
"""Plans, and the same that skip nothing."""


def whole_model(rounds: int, tokens: int = 16, threads: int = 2) -> Iterator[Row]:
    """Compare decoding under plans with the same runtime at 0 %, and with transformers.

    Parameters
    ----------
    rounds : int
        Rounds; the best counts.
    tokens : int
        Tokens that are decoded a round.
    threads : int
        Threads of torch.

    Yields
    ------
    Row
        By CPU time, which decides, and on the clock: the share of the ideal that is reached. The
        dense model is the cheapest of the three plans at 0 %.
    """
    measured = _measured(threads, LAYERS, tokens, rounds)
    size = measured["bytes"]
    for clock, unit in (("cpu", "CPU ms a token"), ("wall", "ms a token")):
        least = {name: 1e3 * min(own) / tokens for name, own in measured[clock].items()}
        dense = min(least[name] for name in PLANS.values())
        for name in PLANS:
            ideal = size / measured["read"][name]
            ratio = dense / least[name]
            status = "held" if ratio >= SHARE * ideal else "failed"
            if clock == "wall":
                status = "held"
            bar = f"at least {SHARE * ideal:.2f}, {SHARE:g} of {ideal:.2f}"
            bar = bar if clock == "cpu" else f"none: printed ({ratio / ideal:.2f} of {ideal:.2f})"
            figure = f"decode: {name}, against 0 %"
            yield Row(figure, least[name], dense, ratio, bar, unit, status)
        hugging = least["transformers"]
        bar = "none: printed"
        yield Row(
            "decode: 0 %, against transformers", dense, hugging, hugging / dense, bar, unit, "held"
        )


def measure(threads: int, layers: int, tokens: int, rounds: int) -> dict[str, object]:
    """Let every plan decode in turn.

    Parameters
    ----------
    threads : int
        Threads of torch.
    layers : int
        Blocks of the model.
    tokens : int
        Tokens that are decoded a round.
    rounds : int
        Rounds; one token before each is not counted.

    Returns
    -------
    dict
        ``bytes`` one token reads in the dense model; ``read`` by plan, bytes one token reads;
        ``cpu`` and ``wall``, seconds of every round by plan; ``backend``.
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
                    cpu, wall = _decode(model, tokens)
                for clock, seconds in (("cpu", cpu), ("wall", wall)):
                    # Rounds that count what is read are slower.
                    spent[clock].setdefault(name, []).extend([] if count else [seconds])
                if count:
                    total, backend = session.counts.total("decode"), session.backend
                    size = 2 * total.model
                    read[name] = size - total.bytes_saved / total.tokens
    return {"bytes": size, "read": read, "backend": backend} | spent


def _decode(model: nn.Module, tokens: int) -> tuple[float, float]:
    ids = torch.arange(PROMPT)[None]
    out = model(ids, use_cache=True, logits_to_keep=1)
    past = out.past_key_values
    out = model(out.logits[:, -1:].argmax(-1), past_key_values=past)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(tokens):
        out = model(out.logits[:, -1:].argmax(-1), past_key_values=past)
    return time.process_time() - cpu, time.perf_counter() - wall


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
