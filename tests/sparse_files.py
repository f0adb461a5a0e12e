"""Tables of sparse runs for a study of the tests, with numbers that are known."""

from pathlib import Path

import numpy as np
import pandas as pd

from lmri.config import StudyConfig, plan_name
from lmri.store import write_table

TASKS = ("events", "relations", "all")


def quality(subject: str, config: StudyConfig, rise: float = 0.002) -> pd.DataFrame:
    """Perplexity rises with the square of what is skipped; the last policy loses most."""
    rows = []
    for number, policy in enumerate(config.sparse.policies):
        for asked in config.sparse.sparsities:
            ratio = 1 + rise * (1 + number) * (10 * asked) ** 2 / 10
            for task in TASKS:
                rows.append(
                    {
                        "subject": subject,
                        "plan": plan_name(policy, asked),
                        "policy": policy,
                        "asked": asked,
                        "task": task,
                        "sparsity": 0.7 * asked,
                        "bytes_avoided": 0.7 * asked * 400_000,
                        "flops_avoided": 0.7 * asked * 200_000,
                        "n": 40,
                        "n_carriers": 9,
                        "perplexity_dense": 1.1,
                        "perplexity_ratio": ratio,
                        "ratio_low": ratio - 0.001,
                        "ratio_high": ratio + 0.002,
                        "divergence": ratio - 1,
                        "divergence_low": 0.0,
                        "divergence_high": 1.0,
                        "exact_dense": 0.9,
                        "exact": 0.8,
                        "exact_change": -0.1,
                        "exact_low": -0.2,
                        "exact_high": 0.0,
                    }
                )
    return pd.DataFrame(rows)


def write_sparse(study: Path, config: StudyConfig) -> None:
    """Write the tables of every subject of a study that asks for them."""
    for subject in config.subjects if config.sparse.policies else ():
        folder = study / "sparse" / subject
        table = quality(subject, config)
        named = table.loc[table["task"] == "all", ["subject", "plan", "policy", "asked"]]
        sites = [(0, "gate"), (1, "gate")]
        achieved = pd.concat(
            [
                named.assign(
                    task="all",
                    layer=layer,
                    rule="input_threshold",
                    site=site,
                    denominator="channels",
                    calibrated=named["asked"],
                    achieved=named["asked"] - 0.02 * layer,
                    parameters=1000,
                    skipped=500.0,
                )
                for layer, site in sites
            ]
        )
        speed = pd.concat(
            [
                named.assign(
                    backend="cpu",
                    threads=1,
                    sparsity=0.7 * named["asked"],
                    ideal=1 / (1 - 0.7 * named["asked"]),
                    phase=phase,
                    arm=arm,
                    round=0,
                    tokens=8,
                    seconds=seconds,
                )
                for phase in ("prefill", "decode")
                for arm, seconds in (("transformers", 0.04), ("dense", 0.02), ("sparse", 0.01))
            ]
        )
        limits = [
            {
                "subject": subject,
                "policy": policy,
                "loss": config.sparse.loss,
                "plan": plan_name(policy, 0.25) if number == 0 else "",
                "sparsity": 0.175 if number == 0 else 0.0,
                "ratio": 1.001,
                "ratio_high": 1.003,
                "n": 40,
                "worst_task": "events -0.100" if number == 0 else "",
                "next_sparsity": 0.28,
                "next_ratio": 1.032,
            }
            for number, policy in enumerate(config.sparse.policies)
        ]
        for name, rows in (
            ("quality", table),
            ("achieved", achieved),
            ("speed", speed),
            ("limits", pd.DataFrame(limits)),
        ):
            write_table(folder / "runs" / f"{name}.parquet", rows)
        if config.tested_tasks:
            write_table(folder / "survival.parquet", survival(subject, config))


def survival(subject: str, config: StudyConfig) -> pd.DataFrame:
    """One map of every hypothesis that survives."""
    return pd.DataFrame(
        [
            {
                "subject": subject,
                "contrast": contrast.name,
                "phase": config.localise.phases[0],
                "kind": "expert",
                "method": "resonance",
                "units": 96,
                "correlation": 0.97,
                "selected": 2,
                "selected_again": 3,
                "shared": 2,
                "dice": 0.8,
                "chance": 0.03 if subject else np.nan,
                "strongest": "2:3",
                "strongest_rank": 1,
            }
            for contrast in config.hypotheses
        ]
    )
