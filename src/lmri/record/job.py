"""The stage ``record``: real greedy responses, then one labelled pass over prompt and response.

Batches hold trials of equal length in the order of the table, so their composition is fixed by
the shard and a recording is the same to the bit whenever it is made on the same machine.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lmri.anatomy import (
    Prompt,
    Subject,
    check_prompts,
    equal_length_batches,
    load_subject,
    prompt_room,
    read_template,
    render_trials,
    template_attributes,
)
from lmri.config import RecordOptions
from lmri.errors import StimuliError
from lmri.intervene import respond
from lmri.record.hooks import HEAD_SUMMARIES, PLACES, Capture, capturing
from lmri.record.phases import (
    STATISTICS,
    phase_masks,
    phase_names,
    pool,
    span_names,
    trial_spans,
)
from lmri.record.progress import Progress
from lmri.score import onset_tokens, score_responses
from lmri.store import RecordingWriter, atomic_directory, read_table, write_manifest


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

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    StimuliError
        If the shard holds no trial, or a trial cannot be read by the subject's tokenizer.
    """
    table = read_table(stimuli, ("trial", "split", "prompt", "template"))
    trials = _shard_trials(table, shard, options, stimuli)
    check_prompts(model, subject, {task: trials}, options.max_new_tokens)  # before the weights
    loaded = load_subject(model, subject)
    template = read_template(table["template"].iloc[0])
    phases = phase_names(loaded.tokenizer, template, table["prompt"].iloc[0])
    room = prompt_room(loaded.model.config, options.max_new_tokens)
    prompts = render_trials(loaded.tokenizer, trials, room)
    scored, tokens = _respond(loaded, trials, prompts, options)
    attributes = {
        "subject": subject,
        "task": task,
        "shard": shard,
        "phases": list(phases),
        "spans": list(span_names(phases)),
        "template": template_attributes(loaded.tokenizer, template),
        "max_new_tokens": options.max_new_tokens,
        "provenance": provenance,
    }
    with atomic_directory(out) as partial:
        writer = RecordingWriter(partial, attributes)
        _record(loaded, scored, prompts, tokens, phases, options, writer)
        shapes = writer.close()
    return write_manifest(
        out,
        manifest,
        provenance=provenance,
        arrays=shapes,
        trials=len(scored),
        truncated_responses=_per_condition(scored, ~scored["ended"]),
        truncated_prompts=_per_condition(scored, scored["n_dropped"] > 0),
    )


def _per_condition(trials: pd.DataFrame, chosen: pd.Series) -> dict[str, int]:
    counts = trials[chosen].groupby("condition").size()
    return {str(name): int(count) for name, count in counts.items()}


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
    subject: Subject, trials: pd.DataFrame, prompts: list[Prompt], options: RecordOptions
) -> tuple[pd.DataFrame, list[list[int]]]:
    """Greedy responses; returns the scored trials and the tokens of prompt plus response."""
    responses = respond(
        subject,
        [prompt.ids for prompt in prompts],
        onset_tokens(subject.tokenizer, trials),
        max_new_tokens=options.max_new_tokens,
        rows=options.rows,
    )
    scores = score_responses(
        subject.tokenizer, trials, responses.tokens, responses.ended, responses.onset_margin
    )
    scored = pd.concat([trials, scores], axis=1)
    scored["n_prompt"] = [len(prompt.ids) for prompt in prompts]
    scored["n_dropped"] = [prompt.dropped for prompt in prompts]
    scored["n_prefill"] = [prompt.n_prefill for prompt in prompts]
    scored["instruction_last"] = [prompt.instruction_last for prompt in prompts]
    pairs = zip(prompts, responses.tokens, strict=True)
    return scored, [[*prompt.ids, *response.tolist()] for prompt, response in pairs]


@torch.inference_mode()
def _record(
    subject: Subject,
    trials: pd.DataFrame,
    prompts: list[Prompt],
    tokens: list[list[int]],
    phases: tuple[str, ...],
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
            own = [(prompts[row], tokens[row]) for row in batch]
            spans, masks = _phases(subject, own, phases)
            _write_index(writer, ids, logits, spans, span_names(phases), first_trial=written)
            _write_routing(writer, subject, capture, neuron="neuron" in quantities)
            _write_pooled(writer, subject, capture, masks, phases, quantities)
            last = masks[:, phases.index("content_last")].int().argmax(dim=1).numpy()
            writer.append_trials(rows.assign(content_last=last))
            written += len(batch)
            progress.advance(len(batch), ids.numel())
    progress.close()


def _phases(
    subject: Subject, rows: list[tuple[Prompt, list[int]]], phases: tuple[str, ...]
) -> tuple[np.ndarray, torch.Tensor]:
    spans, masks = [], []
    for prompt, tokens in rows:
        n_prompt = len(prompt.ids)
        spans.append(trial_spans(subject.tokenizer, prompt, tokens[n_prompt:], phases))
        at = prompt.instruction_last
        masks.append(phase_masks(spans[-1], n_prompt, phases, at, prompt.n_prefill))
    return np.stack(spans), torch.from_numpy(np.stack(masks))


def _write_index(
    writer: RecordingWriter,
    ids: torch.Tensor,
    logits: torch.Tensor,
    spans: np.ndarray,
    names: tuple[str, ...],
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
        attributes={"phases": list(names)},
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
    phases: tuple[str, ...],
    quantities: set[str],
) -> None:
    layers = list(range(subject.anatomy.layers))
    labels = {"phase": list(phases), "statistic": list(STATISTICS), "layer": layers}
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
