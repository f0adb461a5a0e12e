"""The stage ``sparse_run``: every plan of a subject on trials that it was not calibrated on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

from lmri.anatomy import Subject, load_subject
from lmri.config import LoadOptions, SparseOptions
from lmri.errors import SparseError
from lmri.sparse.measures.quality import DenseScores, largest_within, paired_scores, summarise
from lmri.sparse.measures.speed import decode_few, measure_speed
from lmri.sparse.measures.trials import Trials, read_trials
from lmri.sparse.plan import SparsePlan
from lmri.sparse.plan_file import read_plan
from lmri.sparse.rules import InputThreshold, InputTopK, NeuronThreshold, Rule
from lmri.sparse.runtime import Session, sparse
from lmri.sparse.runtime.counts import Total
from lmri.store import atomic_directory, write_table

ALL = "all"
"""In the place of a task: over the trials of all tasks."""


def measure_subject(
    *,
    subject: str,
    model: Path,
    stimuli: Path,
    tasks: Sequence[str],
    plans: Path,
    out: Path,
    options: SparseOptions,
    seed: int,
    provenance: dict,
    load: LoadOptions | None = None,
) -> None:
    """Run a subject under each of its plans: quality, sparsity, speed.

    Parameters
    ----------
    subject : str
        Name of the subject.
    model : Path
        Its prepared folder.
    stimuli : Path
        Folder with ``<task>.parquet``.
    tasks : sequence of str
        Tasks whose evaluation trials are run.
    plans : Path
        Folder with the subject's plans.
    out : Path
        Folder to write: ``quality.parquet``, ``achieved.parquet``, ``speed.parquet``,
        ``limits.parquet``.
    options : SparseOptions
        Sizes, backend, and the loss that limits are told at.
    seed : int
        Seed of the study.
    provenance : dict
        Kept in the tables; its ``subject`` is what plans must be for.
    load : LoadOptions, optional
        How the subject is loaded; by default in float32 on the CPU.

    Raises
    ------
    SparseError
        If there is no plan, one is for another subject or was changed, a task has no evaluation
        trial, or the backend cannot run here.
    """
    paths = sorted(plans.glob("*.json"))
    if not paths:
        raise SparseError(f"{plans}: no plan. Calibrate before running them.")
    loaded = load_subject(model, subject, load=load)
    if loaded.anatomy.encoder:
        raise SparseError(
            f"The subject '{subject}' is an encoder: it predicts no next token, so there is no "
            "perplexity to measure. Leave 'sparse.policies' empty in its study."
        )
    read = {path.stem: read_plan(path, provenance["subject"], loaded.anatomy) for path in paths}
    trials = [
        read_trials(loaded, stimuli, task, "evaluation", options.trials, seed) for task in tasks
    ]
    quality, achieved, speed = [], [], []
    # Beside the output, which has room for it, rather than in memory that looks like a disk.
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent) as folder:
        dense = [
            DenseScores(loaded, own, options.rows, Path(folder) / str(number))
            for number, own in enumerate(trials)
        ]
        for name, plan in read.items():
            run = _Run(loaded, plan, provenance["subject"], options, seed)
            named = {"subject": subject, "plan": name, **_asked(name, plan)}
            rows, counts = run.on_tasks(trials, dense)
            quality += [{**named, **row} for row in rows]
            achieved += [{**named, **row} for row in counts]
            if options.speed_tokens:
                speed.append(run.speed(trials).assign(**named))
    tables = {
        "quality": pd.DataFrame(quality),
        "achieved": pd.DataFrame(achieved),
        "speed": pd.concat(speed, ignore_index=True) if speed else pd.DataFrame(columns=SPEED),
        "limits": _limits(pd.DataFrame(quality), options.loss),
    }
    with atomic_directory(out) as partial:
        for name, table in tables.items():
            table.attrs["provenance"] = json.dumps(provenance)
            write_table(partial / f"{name}.parquet", table)


SPEED = (
    *("subject", "plan", "policy", "asked", "backend", "threads", "sparsity", "ideal"),
    *("phase", "arm", "round", "tokens", "seconds"),
)


def backend_of(subject: Subject, asked: str) -> str:
    """Name of the backend for a subject.

    Parameters
    ----------
    subject : Subject
        The loaded subject.
    asked : str
        A backend, or ``auto``: ``triton`` on a GPU, ``cpu`` elsewhere.

    Returns
    -------
    str
        One of :data:`lmri.sparse.kernels.BACKENDS`.
    """
    if asked != "auto":
        return asked
    return "triton" if subject.device.type == "cuda" else "cpu"


@dataclass(frozen=True)
class _Run:
    """One plan of a loaded subject."""

    subject: Subject
    plan: SparsePlan
    subject_hash: str
    options: SparseOptions
    seed: int

    def running(self, *, count: bool = True) -> AbstractContextManager[Session]:
        backend = backend_of(self.subject, self.options.backend)
        return sparse(self.subject, self.plan, backend, subject_hash=self.subject_hash, count=count)

    def on_tasks(
        self, trials: Sequence[Trials], dense: Sequence[DenseScores]
    ) -> tuple[list[dict], list[dict]]:
        """Quality and counts of every task, and of all together."""
        every, quality, achieved = [], [], []
        units: dict[tuple[int, str, str], np.ndarray] = {}
        sums = []
        with self.running() as session:
            for own, before in zip(trials, dense, strict=True):
                session.counts.clear()
                scores = paired_scores(self.subject, before, own, self.options.rows)
                table = own.table.assign(task=own.task)
                every.append((scores, table))
                sums.append(session.counts.total("prefill"))
                summary = summarise(scores, table, self.seed)
                quality.append({"task": own.task, **_avoided(sums[-1:]), **summary})
                counted = _counted(session)
                achieved += _achieved(own.task, counted, self.plan)
                for key, pair in counted.items():
                    units[key] = units.get(key, 0) + pair
        scores, tables = (pd.concat(part, ignore_index=True) for part in zip(*every, strict=True))
        quality.append({"task": ALL, **_avoided(sums), **summarise(scores, tables, self.seed)})
        return quality, achieved + _achieved(ALL, units, self.plan)

    def speed(self, trials: Sequence[Trials]) -> pd.DataFrame:
        """Times of the longest prompt, with what is ideal at the sparsity of its decoding."""
        longest = max(trials, key=lambda own: max(own.prompts))
        with self.running() as session:
            decode_few(self.subject, longest)
            sparsity = session.counts.total("decode").model_sparsity
            backend = session.backend
        nothing = replace(self, plan=at_zero(self.plan))
        arms = {
            "transformers": nullcontext,
            "dense": partial(nothing.running, count=False),
            "sparse": partial(self.running, count=False),
        }
        times = measure_speed(self.subject, arms, longest, self.options.speed_tokens)
        threads = torch.get_num_threads()
        return times.assign(
            backend=backend, threads=threads, sparsity=sparsity, ideal=1 / (1 - sparsity)
        )


def at_zero(plan: SparsePlan) -> SparsePlan:
    """Give the same plan at 0 %: thresholds of 0, every channel read, nothing left out.

    Parameters
    ----------
    plan : SparsePlan
        A plan.

    Returns
    -------
    SparsePlan
        What its speed is compared with: the same products, all of whose weights are read.
    """
    rules: list[Rule] = []
    for rule in plan.rules:
        if isinstance(rule, InputThreshold | NeuronThreshold):
            rules.append(replace(rule, threshold=torch.zeros_like(rule.threshold)))
        elif isinstance(rule, InputTopK):
            rules.append(InputThreshold(rule.layer, rule.projection, torch.tensor(0.0)))
    return replace(plan, rules=tuple(rules))


def _avoided(sums: Sequence[Total]) -> dict[str, float]:
    """Share of all weights that was skipped, and bytes and FLOPs of a token that this avoids."""
    tokens = max(sum(own.tokens for own in sums), 1)
    multiplied = max(sum(own.model * own.tokens for own in sums), 1)
    return {
        "sparsity": sum(own.governed - own.read for own in sums) / multiplied,
        "bytes_avoided": sum(own.bytes_saved for own in sums) / tokens,
        "flops_avoided": sum(own.flops_saved for own in sums) / tokens,
    }


def _counted(session: Session) -> dict[tuple[int, str, str], np.ndarray]:
    """Units kept and units there were, by layer, rule and site."""
    return {
        (count.layer, count.rule, count.site): np.array([count.kept, count.units])
        for count in session.counts.rules()
    }


def _asked(name: str, plan: SparsePlan) -> dict:
    """Policy as the study names it, and what it was asked for."""
    policy, _, percent = name.rpartition("_")
    if percent.isdigit():
        return {"policy": policy, "asked": int(percent) / 100}
    return {"policy": name, "asked": np.nan}


def _achieved(
    task: str, counted: dict[tuple[int, str, str], np.ndarray], plan: SparsePlan
) -> list[dict]:
    calibrated = {(entry.layer, entry.rule, entry.site): entry for entry in plan.achieved}
    rows = []
    for (layer, rule, site), (kept, units) in counted.items():
        entry = calibrated.get((layer, rule, site))
        rows.append(
            {
                "task": task,
                "layer": layer,
                "rule": rule,
                "site": site,
                "denominator": "" if entry is None else entry.denominator,
                "calibrated": np.nan if entry is None else entry.achieved,
                "achieved": 1 - kept / units if units else np.nan,
                "parameters": 0 if entry is None else entry.parameters,
                "skipped": np.nan if entry is None else entry.skipped,
            }
        )
    return rows


def _limits(quality: pd.DataFrame, loss: float) -> pd.DataFrame:
    """Plan of every policy that skips most while the perplexity over all tasks rises by less."""
    rows = []
    overall = quality[quality["task"] == ALL].sort_values("sparsity", kind="stable")
    for (subject, policy), own in overall.groupby(["subject", "policy"], sort=True):
        # The upper end of the interval: few noisy trials do not make a plan cheap.
        found = largest_within(own["sparsity"].to_numpy(), own["ratio_high"].to_numpy(), loss)
        best = None if found is None else own.iloc[found]
        beyond = own if best is None else own[own["sparsity"] > best["sparsity"]]
        rows.append(
            {
                "subject": subject,
                "policy": policy,
                "loss": loss,
                "plan": "" if best is None else best["plan"],
                "sparsity": 0.0 if best is None else best["sparsity"],
                "ratio": 1.0 if best is None else best["perplexity_ratio"],
                "ratio_high": 1.0 if best is None else best["ratio_high"],
                "n": int(own["n"].iloc[0]),
                "worst_task": "" if best is None else _worst(quality, subject, best["plan"]),
                "next_sparsity": np.nan if beyond.empty else beyond["sparsity"].iloc[0],
                "next_ratio": np.nan if beyond.empty else beyond["perplexity_ratio"].iloc[0],
            }
        )
    return pd.DataFrame(rows)


def _worst(quality: pd.DataFrame, subject: str, plan: str) -> str:
    """Name the task that loses most exact answers, with its change; none where none loses any."""
    rows = quality[(quality["subject"] == subject) & (quality["plan"] == plan)]
    rows = rows[(rows["task"] != ALL) & (rows["exact_change"] < 0)]
    if rows.empty:
        return ""
    worst = rows.loc[rows["exact_change"].idxmin()]
    return f"{worst['task']} {worst['exact_change']:+.3f}"
