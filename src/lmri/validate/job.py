"""The stage ``validate``: every finding of one subject, re-run and judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from lmri.anatomy import Subject, load_subject
from lmri.checks import check_slug
from lmri.config import LoadOptions, ScorersOptions, ValidateOptions
from lmri.errors import StoreError
from lmri.intervene import KINDS
from lmri.score import deciding_scorers
from lmri.sparse.plan_file import read_plan
from lmri.store import atomic_directory, write_table
from lmri.store.claims import Claim
from lmri.validate.before import check_finding
from lmri.validate.claims import (
    CLAIM_COLUMNS,
    Ground,
    Primary,
    claim_rows,
    judge_claims,
    untested_rows,
)
from lmri.validate.drawn import read_drawn
from lmri.validate.given import check_scorers, fitted_subject, read_findings
from lmri.validate.kernel import KernelRepeat, repeat_on_kernel
from lmri.validate.plan_arms import named_units
from lmri.validate.rerun import Rerun
from lmri.validate.responses import FOLDER as RESPONSES
from lmri.validate.responses import SavedResponses
from lmri.validate.settling import bound_verdicts, settled
from lmri.validate.trials import TRIAL_SCORES
from lmri.validate.verdict import Evidence, Verdict, decide, not_testable, stays

JUDGED = ("hypothesis", "negative_control")
"""Roles of findings that get a verdict."""

ARM_COLUMNS = (
    *("subject", "contrast", "phase", "kind", "method"),
    *("arm", "mode", "dose", "draw", "primary", "units", "task"),
    *("condition", "trial_role", "held_out", "score", "n", "n_carriers", "value", "intact"),
    *("effect", "low", "high", "carrier_bound"),
)
VERDICT_COLUMNS = (
    *("subject", "contrast", "phase", "kind", "method", "role", "status", "verdict", "reason"),
    *("units", "dose", "mode", "score", "n", "n_carriers", "intact", "value", "p"),
    *("p_corrected", "claims", "effect", "low", "high", "shams", "sham_mean", "sham_most"),
    *("positive_control", "positive_low", "positive_high", "bystanders", "bystanders_held"),
    *("worst_bystander", "worst_effect", "coherent", "checks", "finding_hash"),
    *("cut", "kernel", "kernel_trials", "kernel_agreeing", "kernel_reason"),
)
TRIAL_COLUMNS = (
    *("subject", "contrast", "phase", "kind", "method", "arm", "mode", "dose", "primary"),
    *("task", "condition", "trial_role", "trial", *TRIAL_SCORES),
)
TRANSCRIPT_COLUMNS = (
    *("trial", "condition", "prompt", "fact", "reference", "intact", "finding", "sham"),
    *("subject", "contrast", "phase", "kind", "method", "sham_draw"),
)


def validate_subject(
    *,
    subject: str,
    model: Path,
    stimuli: Path,
    findings: Path,
    out: Path,
    options: ValidateOptions,
    seed: int,
    provenance: dict,
    load: LoadOptions | None = None,
    plan: Path | None = None,
    subjects: Path | None = None,
    draws: Path | None = None,
    scorers: ScorersOptions | None = None,
) -> pd.DataFrame:
    """Re-run a subject without the units of its findings and reach verdicts.

    Parameters
    ----------
    subject : str
        Name of the subject.
    model : Path
        Its prepared folder.
    stimuli : Path
        Folder with ``<task>.parquet``.
    findings : Path
        Folder with the subject's findings; one changed since it was written is refused.
    out : Path
        Folder to write: ``arms``, ``transcripts``, ``trials``, ``claims`` and ``verdicts``, each
        as ``.parquet``, and ``responses/<contrast>.<task>.parquet``.
    options : ValidateOptions
        Resamples and sizes.
    seed : int
        Seed of the study.
    provenance : dict
        Kept in the tables.
    load : LoadOptions, optional
        How the subject is loaded; by default in float32 on the CPU.
    plan : Path, optional
        Sparse plan of the subject that findings are re-run under too; it decides nothing.
    subjects : Path, optional
        Folder with the prepared folders of all subjects, for claims about another one.
    draws : Path, optional
        Folder with ``<shard>.parquet`` of control draws that were scored before, see
        :func:`score_draws`; what none of ``options.shards`` has is run.
    scorers : ScorersOptions, optional
        Scorers that decide beside the scores of every response.

    Returns
    -------
    DataFrame
        The verdicts.

    Raises
    ------
    StoreError
        If a finding is missing, was changed, belongs to another subject, or is to be tested and
        names units that cannot be intervened on.
    EvidenceError
        If the rule of a finding cannot be followed, see :func:`lmri.validate.before.check_finding`.
    SparseError
        If the plan was changed or is for another subject.
    ScoreError
        If a scorer is unknown, cannot decide, or is not what the finding was made with.
    """
    deciding = deciding_scorers(scorers or ScorersOptions())
    # All are read before any trial is run: a changed one stops the job at once.
    read = read_findings(findings, subject)
    check_scorers(read, deciding)
    shards = [draws / f"{shard}.parquet" for shard in range(options.shards)] if draws else []
    scored = read_drawn([path for path in shards if path.exists()], provenance.get("subject"))
    loaded = load_subject(model, subject, load=load)
    within = None if plan is None else read_plan(plan, provenance["subject"], loaded.anatomy)
    fitted = [fitted_subject(loaded, finding) for finding in read.values()]
    claims = [
        check_finding(finding, path, own.anatomy, stimuli) if "primary_endpoint" in finding else []
        for (path, finding), own in zip(read.items(), fitted, strict=True)
    ]
    other = _Others(subjects, load)
    tables = _Tables()
    with atomic_directory(out) as folder:
        with SavedResponses(folder / RESPONSES, seed) as saved:
            for own, finding, stated in zip(fitted, read.values(), claims, strict=True):
                about = own, finding, stimuli, options, seed, within, scored, saved, deciding
                again = partial(Rerun, *about)
                if finding["status"] == "testable" and "primary_endpoint" not in finding:
                    tables.arms.append(again().explore())
                elif finding["role"] in JUDGED:
                    _judge(finding, again, stated, other, tables)
        for name, table in tables.named():
            table.attrs["provenance"] = json.dumps(provenance)
            write_table(folder / f"{name}.parquet", table)
    return pd.DataFrame(tables.verdicts)


@dataclass
class _Tables:
    """Tables that grow finding by finding."""

    arms: list[pd.DataFrame] = field(default_factory=list)
    transcripts: list[pd.DataFrame] = field(default_factory=list)
    trials: list[pd.DataFrame] = field(default_factory=list)
    claims: list[dict] = field(default_factory=list)
    verdicts: list[dict] = field(default_factory=list)

    def named(self) -> list[tuple[str, pd.DataFrame]]:
        columns = {
            "arms": ARM_COLUMNS,
            "transcripts": TRANSCRIPT_COLUMNS,
            "trials": TRIAL_COLUMNS,
            "claims": CLAIM_COLUMNS,
            "verdicts": VERDICT_COLUMNS,
        }
        return [(name, _table(getattr(self, name), own)) for name, own in columns.items()]


def _table(parts: list[pd.DataFrame] | list[dict], columns: tuple[str, ...]) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame(columns=columns)
    if isinstance(parts[0], dict):
        return pd.DataFrame(parts)
    return pd.concat(parts, ignore_index=True)


class _Others:
    """Loads another subject when a claim is about one; one at a time, so that memory is bounded."""

    def __init__(self, subjects: Path | None, load: LoadOptions | None) -> None:
        self._subjects, self._load = subjects, load
        self._loaded: dict[str, Subject] = {}

    def __call__(self, name: str) -> Subject:
        if self._subjects is None:
            raise StoreError(
                f"A claim is about the subject '{name}': give the folder with the prepared folders "
                "of all subjects as --subjects."
            )
        # A finding is a file that others may have written, and the name becomes a path.
        check_slug(name, "subject", "a claim", StoreError)
        if name not in self._loaded:
            self._loaded = {}  # before the next is read
            self._loaded[name] = load_subject(self._subjects / name, name, load=self._load)
        return self._loaded[name]


def _judge(
    finding: dict,
    again: Callable[[], Rerun],
    claims: list[Claim],
    other: Callable[[str], Subject],
    tables: _Tables,
) -> None:
    """Reach a verdict on a finding and add what it rests on to the tables."""
    if finding["status"] != "testable":
        verdict = not_testable(finding["reason"])
        tables.verdicts.append(_row(finding, verdict, None, {}, 0, KernelRepeat()))
        if finding["role"] == "hypothesis":
            tables.claims += untested_rows(finding)
        return
    rerun = again()
    arms, evidence, transcripts = rerun.confirm()
    endpoint, options, seed = finding["primary_endpoint"], rerun.options, rerun.seed
    ruled = decide(endpoint, evidence)
    about = endpoint, evidence, rerun.trials, rerun.parts, options, seed
    bounds, cut = bound_verdicts(*about)
    target = rerun.parts[0]
    kernel = repeat_on_kernel(
        rerun.subject,
        finding,
        target,
        rerun.trials.of(target, endpoint["score"], "finding"),
        limits=endpoint["coherence"],
        trials=options.kernel_trials,
        seed=seed,
        scorers=rerun.scorers,
    )
    verdict = settled(ruled, bounds, cut, kernel)
    given = rerun.trials, other, rerun.scorers
    ground = Ground(rerun.subject, finding, rerun.stimuli, options, seed, *given)
    primary = Primary(ruled, evidence, rerun.parts)
    tables.claims += claim_rows(finding, judge_claims(claims, ground, primary))
    values = _values(arms, endpoint)
    tables.verdicts.append(_row(finding, verdict, evidence, values, cut, kernel))
    tables.arms.append(arms)
    tables.transcripts.append(transcripts)
    tables.trials.append(rerun.trials.table(rerun.finding_columns))


def _values(arms: pd.DataFrame, endpoint: dict) -> dict:
    keep = (arms["arm"] == "finding") & arms["primary"] & (arms["trial_role"] == "target")
    keep &= (arms["score"] == endpoint["score"]) & (arms["held_out"] == "all")
    row = arms[keep].iloc[0]
    return {"value": float(row["value"]), "intact": float(row["intact"])}


def _row(
    finding: dict,
    verdict: Verdict,
    evidence: Evidence | None,
    values: dict,
    cut: int,
    kernel: KernelRepeat,
) -> dict:
    endpoint = finding.get("primary_endpoint", {})
    named = named_units(finding) if finding["kind"] in KINDS else []
    return {
        **{k: finding[k] for k in ("subject", "contrast", "phase", "kind", "method", "role")},
        "status": finding["status"],
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "units": json.dumps(endpoint.get("units", named)),
        "dose": endpoint.get("dose", 0),
        "mode": endpoint.get("mode", ""),
        "score": endpoint.get("score", ""),
        "n": 0 if evidence is None else evidence.effect.n,
        "n_carriers": 0 if evidence is None else evidence.effect.n_carriers,
        "intact": values.get("intact", np.nan),
        "value": values.get("value", np.nan),
        "p": verdict.p,
        "p_corrected": verdict.p_corrected,
        "claims": endpoint.get("claims", 0),
        **_numbers(evidence, endpoint),
        "checks": json.dumps([vars(check) for check in verdict.checks]),
        "finding_hash": finding["hash"],
        "cut": cut,
        "kernel": kernel.backend,
        "kernel_trials": kernel.n,
        "kernel_agreeing": kernel.agreeing,
        "kernel_reason": kernel.reason,
    }


def _numbers(evidence: Evidence | None, endpoint: dict) -> dict:
    if evidence is None:
        nothing = dict.fromkeys(
            ("effect", "low", "high", "sham_mean", "sham_most", "positive_control"), np.nan
        )
        rest = dict.fromkeys(("positive_low", "positive_high", "worst_effect", "coherent"), np.nan)
        counts = {"shams": 0, "bystanders": 0, "bystanders_held": 0, "worst_bystander": ""}
        return {**nothing, **rest, **counts}
    worst = max(
        evidence.bystanders, key=lambda name: abs(evidence.bystanders[name].mean), default=""
    )
    bystanders = evidence.bystanders
    return {
        "effect": evidence.effect.mean,
        "low": evidence.effect.low,
        "high": evidence.effect.high,
        "shams": len(evidence.shams),
        "sham_mean": float(np.mean(evidence.shams)),
        "sham_most": float(np.max(evidence.shams)),
        "positive_control": evidence.positive_control.mean,
        "positive_low": evidence.positive_control.low,
        "positive_high": evidence.positive_control.high,
        "bystanders": len(bystanders),
        "bystanders_held": sum(
            stays(effect, endpoint)
            for name, effect in bystanders.items()
            if name not in evidence.absent
        ),
        "worst_bystander": worst,
        "worst_effect": bystanders[worst].mean if worst else np.nan,
        "coherent": evidence.coherent,
    }
