"""Time whole models that decode under plans, beside the same runtime that skips nothing.

``THREADS LAYERS BURSTS`` builds a random model of the shape of Llama (bfloat16, hidden size 2048,
8192 neurons a layer, a vocabulary of 32,000) twice, lets two plans decode in turn, a burst of
tokens each, one token at a time after a prompt, and prints JSON in its last line. A machine whose
memory is slower for a while is so for both. Weights take 2.4 GB a model with 16 layers, far more
than a cache holds.

The plans: TEAL (the inputs of every projection cut at their median), CATS (neurons cut at the
median of the gate), and a fifth of all neurons kept; each beside itself at 0 %, and one of those
beside transformers without us.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.rows import Row, printed
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

PAIRS = {**PLANS, "transformers": "TEAL 0 %"}
"""What decodes in turn."""


def whole_model(bursts: int, threads: int = 2) -> Iterator[Row]:
    """Compare decoding under plans with the same runtime at 0 %, and with transformers.

    Parameters
    ----------
    bursts : int
        Bursts of tokens that are decoded.
    threads : int
        Threads of torch.

    Yields
    ------
    Row
        How many times cheaper a plan is than the same at 0 %, by CPU time, which decides, and on
        the clock, printed; then a plan at 0 % against transformers. Times are medians, and so is
        the ratio: of those of neighbouring bursts, because the memory of a machine that others
        share has fast and slow spells, and the best bursts of two may be of different ones.
    """
    measured = _measured(threads, LAYERS, bursts)
    for clock, unit in (("cpu", "CPU ms a token"), ("wall", "ms a token")):
        for name in PLANS:
            ideal = measured["bytes"] / measured["read"][name]
            row = _compared(f"decode: {name}, against 0 %", *measured[clock][name], unit)
            if clock == "cpu":
                status = "held" if row.ratio >= SHARE * ideal else "failed"
                row = replace(row, bar=f"at least {SHARE:g} of {ideal:.2f}", status=status)
            yield row
        theirs, ours = measured[clock]["transformers"]
        yield _compared("decode: 0 %, against transformers", ours, theirs, unit)


def _compared(figure: str, ours: list[float], theirs: list[float], unit: str) -> Row:
    per_token = (1e3 * median(seconds) / BURST for seconds in (ours, theirs))
    ratio = median(there / here for here, there in zip(ours, theirs, strict=True))
    return replace(printed(figure, next(per_token), unit, next(per_token)), ratio=ratio)


def measure(threads: int, layers: int, bursts: int) -> dict[str, object]:
    """Let plans and the same at 0 % decode in turn.

    Parameters
    ----------
    threads : int
        Threads of torch.
    layers : int
        Blocks of the model.
    bursts : int
        Bursts of tokens that each decodes.

    Returns
    -------
    dict
        ``bytes`` one token reads in the dense model; ``read`` by plan, bytes one token reads;
        ``cpu`` and ``wall``, seconds of every burst of both of a pair, by the name of its first;
        ``backend``.
    """
    torch.set_num_threads(threads)
    models = [_model(layers) for _ in range(2)]
    plans = _plans(models[0])
    spent: dict[str, dict[str, list[list[float]]]] = {"cpu": {}, "wall": {}}
    read, backend, size = {}, "", 0
    for pair in PAIRS.items():
        with torch.inference_mode(), ExitStack() as stack:
            decoders = []
            for model, name in zip(models, pair, strict=True):
                session = None
                if name in plans:
                    session = stack.enter_context(sparse(model, plans[name], "cpu"))
                decoders.append(_Decoder(model))
                if session is not None:
                    decoders[-1].burst()
                    total, backend = session.counts.total("decode"), session.backend
                    size = 2 * total.model
                    read[name] = size - total.bytes_saved / total.tokens
                    session.counts.enabled = False  # to count takes time
            for name, seconds in zip(("cpu", "wall"), _in_turn(decoders, bursts), strict=True):
                spent[name][pair[0]] = seconds
    return {"bytes": size, "read": read, "backend": backend} | spent


class _Decoder:
    """Decodes after a prompt; one token comes with it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.out = model(torch.arange(PROMPT)[None], use_cache=True, logits_to_keep=1)
        self.past = self.out.past_key_values
        self.step()

    def step(self) -> None:
        self.out = self.model(self.out.logits[:, -1:].argmax(-1), past_key_values=self.past)

    def burst(self) -> None:
        for _ in range(BURST):
            self.step()


def _in_turn(decoders: list[_Decoder], bursts: int) -> tuple[list[list[float]], list[list[float]]]:
    """Seconds of every burst, one before them not counted: of the processors, and on the clock."""
    cpu: list[list[float]] = [[] for _ in decoders]
    wall: list[list[float]] = [[] for _ in decoders]
    sides = list(zip(decoders, cpu, wall, strict=True))
    for turn in range(bursts + 1):
        # Who is first changes, so that a machine that slows down or speeds up favours neither.
        for decoder, used, passed in sides if turn % 2 else reversed(sides):
            before = time.process_time(), time.perf_counter()
            decoder.burst()
            if turn:
                used.append(time.process_time() - before[0])
                passed.append(time.perf_counter() - before[1])
    return cpu, wall


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


def _plans(model: nn.Module) -> dict[str, SparsePlan]:
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
