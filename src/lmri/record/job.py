"""The stage ``record``: real greedy responses, then one labelled pass over prompt and response.

Batches hold trials of equal length in the order of the table, so their composition is fixed by
the shard and a recording is the same to the bit whenever it is made on the same machine.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lmri.anatomy import Subject, equal_length_batches, load_subject
from lmri.config import LoadOptions, RecordOptions
from lmri.errors import StimuliError
from lmri.intervene import respond
from lmri.record.hooks import HEAD_SUMMARIES, PLACES, Capture, capturing
from lmri.record.phases import PHASES, SPANS, STATISTICS, phase_masks, pool, prompt_spans
from lmri.record.progress import Progress
from lmri.score import encode, onset_tokens, score_responses
from lmri.store import (
    RecordingWriter,
    atomic_directory,
    read_table,
    write_manifest,
    writing_lock,
)


def record_task(
    *,
    out: Path,
    manifest: Path,
    subject: str,
    model: Path,
    task: str,
    stimuli: Path,
    shard: int,
    options: RecordOptions,
    seed: int,
    provenance: dict,
    load: LoadOptions | None = None,
) -> dict:
    """Record one subject on one shard of a task.

    Parameters
    ----------
    out : Path
        Store to write, ``<shard>.zarr``.
    manifest : Path
        Its manifest, written after it.
    subject : str
        Name of the subject.
    model : Path
        Its prepared folder.
    task : str
        Name of the task.
    stimuli : Path
        Table of its trials.
    shard : int
        Number of the shard: every ``options.shards``-th trial, starting at this one.
    options : RecordOptions
        Which splits and quantities, and the limits.
    seed : int
        Seed of the study; greedy responses do not depend on it.
    provenance : dict
        Kept in the store and its manifest.
    load : LoadOptions, optional
        How the subject is loaded; by default in float32 on the CPU.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    StimuliError
        If the shard holds no trial, or a trial cannot be read by the subject's tokenizer.
    """
    trials = _shard_trials(
        read_table(stimuli, ("trial", "split", "prompt")), shard, options, stimuli
    )
    loaded = load_subject(model, subject, load=load)
    scored, tokens = _respond(loaded, trials, options)
    attributes = {
        "subject": subject,
        "task": task,
        "shard": shard,
        "phases": list(PHASES),
        "spans": list(SPANS),
        "max_new_tokens": options.max_new_tokens,
        "provenance": provenance,
    }
    with (
        writing_lock(out),
        atomic_directory(out) as partial,
        RecordingWriter(partial, attributes) as writer,
    ):
        _record(loaded, scored, tokens, options, writer)
        shapes = writer.close()
    truncated = scored.loc[~scored["ended"]].groupby("condition").size()
    return write_manifest(
        out,
        manifest,
        provenance=provenance,
        arrays=shapes,
        trials=len(scored),
        truncated_responses={str(name): int(count) for name, count in truncated.items()},
    )


def _shard_trials(
    trials: pd.DataFrame, shard: int, options: RecordOptions, stimuli: Path
) -> pd.DataFrame:
    chosen = trials[trials["split"].isin(options.splits)].iloc[shard :: options.shards]
    if chosen.empty:
        raise StimuliError(
            f"{stimuli}: shard {shard} of {options.shards} has no trial in the splits "
            f"{', '.join(options.splits)}. Ask for fewer 'shards'."
        )
    return chosen.reset_index(drop=True)


def _respond(
    subject: Subject, trials: pd.DataFrame, options: RecordOptions
) -> tuple[pd.DataFrame, list[list[int]]]:
    """Greedy responses; returns the scored trials and the tokens of prompt plus response."""
    prompts = [
        encode(subject.tokenizer, row.prompt, f"trial {row.trial!r}") for row in trials.itertuples()
    ]
    responses = respond(
        subject,
        prompts,
        onset_tokens(subject.tokenizer, trials),
        max_new_tokens=options.max_new_tokens,
        rows=options.rows,
    )
    scores = score_responses(
        subject.tokenizer, trials, responses.tokens, responses.ended, responses.onset_margin
    )
    scored = pd.concat([trials, scores], axis=1)
    scored["n_prompt"] = [len(prompt) for prompt in prompts]
    return scored, [[*p, *r.tolist()] for p, r in zip(prompts, responses.tokens, strict=True)]


@torch.inference_mode()
def _record(
    subject: Subject,
    trials: pd.DataFrame,
    tokens: list[list[int]],
    options: RecordOptions,
    writer: RecordingWriter,
) -> None:
    quantities = set(options.quantities)
    progress = Progress(f"record {subject.name}", len(trials), sum(map(len, tokens)))
    written = 0
    with capturing(subject, head="head" in quantities, neuron="neuron" in quantities) as capture:
        for batch in equal_length_batches([len(row) for row in tokens], options.rows):
            capture.clear()
            ids = torch.tensor([tokens[row] for row in batch])
            logits = subject.model(input_ids=ids, use_cache=False).logits
            rows = trials.iloc[batch].reset_index(drop=True)
            spans, masks = _phases(subject, rows, ids.shape[1])
            _write_index(writer, ids, logits, spans, first_trial=written)
            _write_routing(writer, subject, capture, neuron="neuron" in quantities)
            _write_pooled(writer, subject, capture, masks, quantities)
            last = masks[:, PHASES.index("content_last")].int().argmax(dim=1).numpy()
            writer.append_trials(rows.assign(content_last=last))
            written += len(batch)
            progress.advance(len(batch), ids.numel())
    progress.close()


def _phases(subject: Subject, rows: pd.DataFrame, length: int) -> tuple[np.ndarray, torch.Tensor]:
    spans = np.full((len(rows), length), SPANS.index("response"), dtype=np.uint8)
    masks = []
    for i, row in enumerate(rows.itertuples()):
        spans[i, : row.n_prompt] = prompt_spans(
            subject.tokenizer, row.prompt, row.content, row.trial
        )
        masks.append(phase_masks(spans[i], row.n_prompt))
    return spans, torch.from_numpy(np.stack(masks))


def _write_index(
    writer: RecordingWriter,
    ids: torch.Tensor,
    logits: torch.Tensor,
    spans: np.ndarray,
    first_trial: int,
) -> None:
    batch, length = ids.shape
    log_probability = torch.full((batch, length), float("nan"))
    said = torch.log_softmax(logits[:, :-1].float(), dim=-1)
    log_probability[:, :-1] = said.gather(2, ids[:, 1:, None]).squeeze(2)
    columns = {
        "trial": np.repeat(np.arange(first_trial, first_trial + batch, dtype=np.int32), length),
        "position": np.tile(np.arange(length, dtype=np.int32), batch),
        "token_id": ids.numpy().astype(np.int32).reshape(-1),
        "logp_next": log_probability.numpy().reshape(-1),
    }
    for name, values in columns.items():
        writer.append("tokens/index", name, values, ("token",))
    writer.append(
        "tokens/index",
        "phase",
        spans.reshape(-1),
        ("token",),
        attributes={"phases": list(SPANS)},
    )


def _write_routing(
    writer: RecordingWriter, subject: Subject, capture: Capture, *, neuron: bool
) -> None:
    layers = list(subject.anatomy.moe_layers)
    # uint8 holds 256 experts; larger models need two bytes
    id_type = np.uint8 if subject.anatomy.experts <= 256 else np.uint16
    experts = torch.stack([capture.experts[layer] for layer in layers], dim=1)
    weights = torch.stack([capture.weights[layer] for layer in layers], dim=1)
    logits = torch.stack([capture.logits[layer] for layer in layers], dim=1)
    node, layer_axis = "tokens/router", {"layer": layers}
    slots = ("token", "layer", "slot")
    writer.append(node, "expert_id", experts.numpy().astype(id_type), slots, layer_axis)
    writer.append(node, "weight", weights.float().numpy(), slots)
    writer.append(node, "logits", logits.float().numpy(), ("token", "layer", "expert"))
    if neuron:
        neurons = torch.stack([capture.neurons[layer] for layer in layers], dim=1)
        with np.errstate(over="ignore"):  # refused below
            values = neurons.numpy().astype(np.float16)
        if not np.isfinite(values).all():
            raise StimuliError(
                f"Neurons of subject '{subject.name}' exceed float16 (65504). "
                "Leave 'neuron' out of 'record.quantities'."
            )
        writer.append("tokens/neuron", "activation", values, (*slots, "neuron"), layer_axis)


def _write_pooled(
    writer: RecordingWriter,
    subject: Subject,
    capture: Capture,
    masks: torch.Tensor,
    quantities: set[str],
) -> None:
    layers = list(range(subject.anatomy.layers))
    labels = {"phase": list(PHASES), "statistic": list(STATISTICS), "layer": layers}
    dims = ("trial", "phase", "statistic", "layer")
    if quantities & {"layer", "residual"}:
        states = torch.stack(
            [torch.stack([capture.residual[i, place] for place in PLACES], 2) for i in layers], 2
        )  # (batch, tokens, layers, places, hidden)
        places = {**labels, "place": list(PLACES)}
        norms = pool(states.norm(dim=-1), masks).numpy()
        writer.append("pooled/layer", "norm", norms, (*dims, "place"), places)
        if "residual" in quantities:
            pooled = pool(states, masks).numpy()
            writer.append("pooled/residual", "residual", pooled, (*dims, "place", "dim"), places)
    if "head" in quantities:
        for name in HEAD_SUMMARIES:
            values = torch.stack([capture.heads[i, name] for i in layers], dim=2)
            writer.append("pooled/head", name, pool(values, masks).numpy(), (*dims, "head"), labels)
