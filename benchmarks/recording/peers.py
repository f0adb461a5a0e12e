"""What the peers cost: run by their own interpreter, measures once for each line that it reads.

``run_with_cache`` of TransformerLens and ``trace`` of nnsight get the batches that ours got. What
they give is kept as this package stores it: float16 on the processor. The filtered variants keep
the quantities that ours records for every token; the unfiltered one everything there is, until the
next batch. Nobody is asked for logits: nnsight stops after the last block; TransformerLens is told
to return none, and its model computes them all the same.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PLACES = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")
ROUTER = ("mlp.gate.hook_out", "mlp.gate.hook_expert_weights", "mlp.gate.hook_expert_indices")


def read_batches(folder):
    """Token ids padded on the right, batch after batch."""
    with np.load(folder / "batches.npz") as saved:
        return [torch.from_numpy(saved[name]) for name in sorted(saved) if name.endswith(".ids")]


def narrow(values):
    """As it is stored: float16, or whole numbers of one byte."""
    kind = torch.float16 if values.is_floating_point() else torch.uint8
    return values.detach().to(kind).numpy()


def transformer_lens(folder, architecture, filtered):
    """Return a function that runs one batch and returns what is kept."""
    from transformer_lens.model_bridge import TransformerBridge

    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.init_kwargs["name_or_path"] = str(folder)
    bridge = TransformerBridge.boot_transformers(
        str(folder), hf_model=model, tokenizer=tokenizer, device="cpu"
    )
    inside = ROUTER if architecture == "olmoe" else ("mlp.hook_post",)
    kept = tuple(f".{name}" for name in PLACES + inside)

    def run(ids):
        names = (lambda name: name.endswith(kept)) if filtered else None
        _, cache = bridge.run_with_cache(ids, names_filter=names, return_type=None)
        return {name: narrow(values) for name, values in cache.items() if values is not None}

    return run


def nnsight(folder, architecture, filtered):
    """Return a function that runs one batch and returns what is kept."""
    from nnsight import LanguageModel

    model = AutoModelForCausalLM.from_pretrained(folder)
    wrapped = LanguageModel(model, tokenizer=AutoTokenizer.from_pretrained(folder))
    olmoe = architecture == "olmoe"

    def run(ids):
        found = {}
        with torch.no_grad(), wrapped.trace({"input_ids": ids}) as tracer:
            blocks = wrapped.model.layers if olmoe else wrapped.transformer.h
            for layer, block in enumerate(blocks):
                found[f"{layer}.before"] = block.input.save()
                normed = block.post_attention_layernorm if olmoe else block.ln_2
                found[f"{layer}.mid"] = normed.input.save()
                if olmoe:
                    for i, part in enumerate(("logits", "weights", "ids")):
                        found[f"{layer}.{part}"] = block.mlp.gate.output[i].save()
                else:
                    found[f"{layer}.neurons"] = block.mlp.c_proj.input.save()
                output = block.output
                found[f"{layer}.after"] = (
                    output[0] if isinstance(output, tuple) else output
                ).save()
            tracer.stop()
        return {name: narrow(values) for name, values in found.items()}

    return run


def peak_memory():
    """Most memory of this process, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024 / 1e6


def main():
    """Read the arguments ``FOLDER ARCHITECTURE PEER VARIANT``; answer lines with lines of JSON."""
    folder, architecture, peer, variant = sys.argv[1:]
    torch.set_num_threads(1)
    make = {"transformer_lens": transformer_lens, "nnsight": nnsight}[peer]
    filtered = variant == "filtered"
    run = make(Path(folder), architecture, filtered)
    batches = read_batches(Path(folder))
    with torch.inference_mode() if peer == "transformer_lens" else torch.no_grad():
        run(batches[0])
        for _ in sys.stdin:
            everything = []
            start, began = time.process_time(), time.perf_counter()
            for ids in batches:
                found = run(ids)
                everything = [*everything, found] if filtered else [found]
            cpu, clock = time.process_time() - start, time.perf_counter() - began
            print(json.dumps({"cpu": cpu, "clock": clock, "peak": peak_memory()}), flush=True)


if __name__ == "__main__":
    main()
