"""The stage ``calibrate``: every policy of a study at every sparsity, as plan files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lmri.anatomy import Subject, load_subject, similar_length_batches
from lmri.config import LoadOptions, SparseOptions, plan_name
from lmri.errors import SparseError
from lmri.sparse.calibration import Activity, Texts, calibration_texts
from lmri.sparse.plan import SparsePlan
from lmri.sparse.plan_file import write_plan
from lmri.sparse.policies import Runs, calibrate
from lmri.sparse.policies.heads import caches_heads
from lmri.sparse.runtime import sparse
from lmri.store import Recording, atomic_directory, open_recording

DOWN = ("down", "expert_down", "shared_down")


@dataclass(frozen=True)
class Variant:
    """A policy as a study names it.

    Attributes
    ----------
    policy : str
        One of :data:`lmri.sparse.policies.POLICIES`.
    options : callable
        From a sparsity, the options of the study and its seed to the options of the policy.
    graded : bool
        Whether there is a plan for every sparsity, or one.
    """

    policy: str
    options: Callable[[float, SparseOptions, int], dict]
    graded: bool = True


def _share(**more: object) -> Callable[[float, SparseOptions, int], dict]:
    return lambda sparsity, study, seed: {"sparsity": sparsity, **more}


VARIANTS: dict[str, Variant] = {
    "cache_heads": Variant("cache_heads", lambda s, study, seed: _cache(study), graded=False),
    "cache_random": Variant(
        "cache_heads",
        lambda s, study, seed: {**_cache(study), "random_seed": seed},
        graded=False,
    ),
    "cats": Variant("cats", _share()),
    "cett": Variant("cett", lambda s, study, seed: {"cett": s}),
    "chess": Variant("chess", _share()),
    "fatrelu": Variant("fatrelu", _share()),
    "ppl_search": Variant(
        "ppl_search", lambda s, study, seed: {"percent": 100 * study.loss}, graded=False
    ),
    "relu": Variant("relu", lambda s, study, seed: {}, graded=False),
    "skip_experts": Variant("skip_experts", lambda s, study, seed: {"quantile": s}),
    "statistical_top_k": Variant("statistical_top_k", _share()),
    "teal": Variant("teal", _share()),
    "teal_down": Variant("teal", _share(projections=DOWN)),
    "teal_greedy": Variant("teal", _share(allocation="greedy")),
    "top_k": Variant("top_k", _share()),
    "wina": Variant("wina", _share()),
    "wina_k_gate": Variant("wina", _share(norms="k_gate")),
}
"""Policies by the name they have in a study. ``cett`` takes the sparsity as its tail error, and
``skip_experts`` as the quantile of the ratios of weights."""


def _cache(study: SparseOptions) -> dict:
    return {
        "heads": [list(head) for head in study.full_heads],
        "sinks": study.cache_sinks,
        "window": study.cache_window,
    }


def calibrate_subject(
    *,
    subject: str,
    model: Path,
    recordings: Path,
    out: Path,
    options: SparseOptions,
    seed: int,
    provenance: dict,
    load: LoadOptions | None = None,
) -> None:
    """Calibrate the policies of a study for one subject.

    Policies about something that the subject does not have, such as experts or a cache of every
    head, are left out.

    Parameters
    ----------
    subject : str
        Name of the subject.
    model : Path
        Its prepared folder.
    recordings : Path
        Folder with ``<task>/<shard>.zarr`` of the subject: trials of the calibration split, with
        their responses, are read.
    out : Path
        Folder to write: ``<policy>_<percent>.json`` with tensors beside it, for every plan.
    options : SparseOptions
        Policies and sparsities.
    seed : int
        Seed of the study: that of the heads of ``cache_random``; no other policy draws anything.
    provenance : dict
        Kept in the plans.
    load : LoadOptions, optional
        How the subject is loaded; by default in float32 on the CPU.

    Raises
    ------
    SparseError
        If there are too few tokens, or the subject has nothing that any of the policies is about.
    """
    loaded = load_subject(model, subject, load=load)
    stores = sorted(recordings.glob("*/*.zarr"))
    texts = calibration_texts(
        [_open(store) for store in stores],
        most_tokens=options.most_tokens,
        subject_hash=provenance["subject"],
    )
    activity = Activity(
        loaded, texts, left_out=options.dense_tokens, least_tokens=options.least_tokens
    )
    # A search evaluates what it returns: with the same first tokens dense.
    runs = Runs(
        perplexity=lambda plan: perplexity(
            loaded, texts, replace(plan, dense_tokens=options.dense_tokens), options.rows
        )
    )
    names = [name for name in options.policies if _applies(name, activity)]
    if not names:
        raise SparseError(
            f"The subject '{subject}' has nothing that the policies {', '.join(options.policies)} "
            "are about. Name others in 'sparse.policies'."
        )
    with atomic_directory(out) as partial:
        for name in names:
            for sparsity in _sparsities(name, options):
                plan = _calibrated(name, activity, sparsity, options, runs, seed)
                write_plan(partial / f"{plan_name(name, sparsity)}.json", plan, provenance)


def _sparsities(name: str, options: SparseOptions) -> Sequence[float | None]:
    return options.sparsities if VARIANTS[name].graded else (None,)


def _calibrated(
    name: str,
    activity: Activity,
    sparsity: float | None,
    options: SparseOptions,
    runs: Runs,
    seed: int,
) -> SparsePlan:
    variant = VARIANTS[name]
    own = variant.options(sparsity, options, seed)
    if "projections" in own:
        there = {part for parts in activity.linears.values() for part in parts}
        own["projections"] = tuple(part for part in own["projections"] if part in there)
    return calibrate(variant.policy, activity, own, runs=runs, dense_tokens=options.dense_tokens)


def _applies(name: str, activity: Activity) -> bool:
    policy = VARIANTS[name].policy
    if policy == "skip_experts":
        return bool(activity.subject.anatomy.moe_layers)
    if policy == "cache_heads":
        return caches_heads(activity)
    return True


@torch.inference_mode()
def perplexity(subject: Subject, texts: Texts, plan: SparsePlan, rows: int) -> float:
    """Perplexity of texts under a plan, over all tokens but the first of each.

    Parameters
    ----------
    subject : Subject
        The subject.
    texts : Texts
        Prompts with responses.
    plan : SparsePlan
        The plan.
    rows : int
        Texts per forward pass, at most; one pass holds texts of one length.

    Returns
    -------
    float
        ``exp(mean loss in nats)``.
    """
    total = count = 0.0
    lengths = [len(own) for own in texts.tokens]
    with sparse(subject, plan, "reference", subject_hash=texts.subject, count=False):
        for batch in similar_length_batches(lengths, rows, 0.0):
            ids = torch.tensor([texts.tokens[row].tolist() for row in batch], device=subject.device)
            logits = subject.model(input_ids=ids, use_cache=False).logits[:, :-1]
            said = torch.log_softmax(logits.float(), dim=-1).gather(2, ids[:, 1:, None])
            total -= float(said.double().sum())
            count += said.numel()
    return float(torch.tensor(total / count).exp())


def _open(store: Path) -> Recording:
    return open_recording(store, store.with_name(f"{store.name}.manifest.json"))
