"""What grows with what: the coefficients of ``lmri estimate``, and how far off it is.

``stages`` compares the estimate of a study with a finished run of it. ``passes`` records random
models of several depths, widths and numbers of tokens, and fits what a token costs. ``maps`` times
the permutation test over units, trials and permutations.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.optimize import nnls

from benchmarks.recording.subjects import save_model
from benchmarks.rows import Row, parser, printed, report
from lmri.anatomy import describe, load_subject, parameter_counts
from lmri.config import RecordOptions, SplitOptions, TaskOptions, WorldOptions, load_study
from lmri.localise.permuted_regression import permuted_regression, shuffled_rows
from lmri.preflight import coefficients as per
from lmri.preflight.estimate import FACTOR, estimate_study
from lmri.preflight.volumes import value_bytes
from lmri.record import record_task
from lmri.stimuli import write_stimuli

QUANTITIES = (("layer",), ("router", "layer", "head", "attention", "neuron", "residual"))
"""Little is recorded of a model, or much."""

SPLITS = ("selection", "calibration", "evaluation")
NEW_TOKENS = 4
NANO = 1e9
TRIALS = 500


def stages(configfile: Path, results: Path) -> list[Row]:
    """Compare the estimate of a study with a finished run.

    Parameters
    ----------
    configfile : Path
        The study.
    results : Path
        Its folder, ``results/<study>``.

    Returns
    -------
    list of Row
        ``ours`` is the estimate, ``theirs`` what was measured, by stage; disk and memory have a
        bar.
    """
    estimate = estimate_study(load_study(configfile))
    by_stage = estimate.stages.groupby("stage", sort=False)
    rows, most = [], 0.0
    for stage, part in by_stage:
        tables = [pd.read_csv(f, sep="\t") for f in (results / "benchmarks" / stage).glob("*.tsv")]
        if not tables:
            continue
        measured = pd.concat(tables)
        most = max(most, measured["max_rss"].max() * 2**20)
        taken = float(measured["cpu_time"].sum())
        rows.append(printed(f"{stage}: CPU seconds", part["seconds"].sum(), "s", taken))
        memory = float(measured["max_rss"].max() * 2**20 / 1e6)
        rows.append(printed(f"{stage}: memory of a job", part["memory"].max() / 1e6, "MB", memory))
    told_of = {"logs", "benchmarks", "report"}
    files = [path for path in results.rglob("*") if path.is_file()]
    kept = [path for path in files if path.relative_to(results).parts[0] not in told_of]
    disk = sum(path.stat().st_size for path in kept)
    return [
        *rows,
        _within("disk", estimate.disk / 1e6, disk / 1e6, "MB"),
        _within("memory of the largest job", estimate.memory / 1e6, most / 1e6, "MB"),
    ]


def _within(figure: str, ours: float, theirs: float, unit: str) -> Row:
    ratio = theirs / ours
    held = 1 / FACTOR <= ratio <= FACTOR
    bar = f"within {FACTOR} times"
    return Row(figure, ours, theirs, ratio, bar, unit, "held" if held else "failed")


def passes(rounds: int) -> list[Row]:
    """Fit what a recorded token costs, over depths, widths and numbers of tokens.

    Parameters
    ----------
    rounds : int
        Rounds; the least CPU time of each size counts.

    Returns
    -------
    list of Row
        The fitted coefficients beside those in use, and the worst size.
    """
    sizes = list(itertools.product((2, 6), (64, 384), (100, 300), QUANTITIES))
    work, seconds = [], []
    with tempfile.TemporaryDirectory() as name:
        for layers, hidden, trials, quantities in sizes:
            options = RecordOptions(
                splits=SPLITS, max_new_tokens=NEW_TOKENS, quantities=quantities, full=("router",)
            )
            model = Path(name) / f"{layers}_{hidden}"
            if not model.exists():
                _save(model, layers, hidden)
            made, taken = _recorded(model, trials, options, rounds)
            work.append(made)
            seconds.append(taken)
    work, seconds = np.array(work), np.array(seconds)
    # Relative errors, so that small models weigh as much as large ones.
    fitted, _ = nnls(work / seconds[:, None], np.ones(len(seconds)))
    told = (work @ fitted) / seconds
    rate = 1 / fitted[1] if fitted[1] else float("inf")
    return [
        printed("a recording whatever its size", fitted[0], "s"),
        printed("operations of a model (FLOPS)", rate / 1e9, "10^9/s", per.FLOPS / 1e9),
        printed("a token in a layer (PER_LAYER)", fitted[2] * NANO, "ns", per.PER_LAYER * NANO),
        printed("a byte of values (PER_BYTE)", fitted[3] * NANO, "ns", per.PER_BYTE * NANO),
        printed(f"{len(sizes)} sizes, fitted over measured: least", told.min(), "1"),
        printed(f"{len(sizes)} sizes, fitted over measured: most", told.max(), "1"),
    ]


def _save(model: Path, layers: int, hidden: int) -> None:
    sizes = {"hidden_size": hidden, "intermediate_size": hidden // 2}
    save_model(model, "olmoe", num_hidden_layers=layers, **sizes)


def _recorded(
    model: Path, trials: int, options: RecordOptions, rounds: int
) -> tuple[list[float], float]:
    """Record a random model; return its work and the least CPU time."""
    subject = load_subject(model, "random")
    anatomy = describe(subject.model)
    _, used = parameter_counts(subject.model, anatomy)
    stimuli = _table(model.parent, trials)
    taken = []
    for _ in range(rounds):
        out = model.parent / "out.zarr"
        out.with_name("out.zarr.manifest.json").unlink(missing_ok=True)
        start = time.process_time()
        record_task(
            out=out,
            manifest=out.with_name("out.zarr.manifest.json"),
            subject="random",
            model=model,
            task="words",
            stimuli=stimuli,
            shard=0,
            options=options,
            seed=0,
            provenance={"round": time.time()},
        )
        taken.append(time.process_time() - start)
    tokens = trials * (WORDS + NEW_TOKENS)
    values = value_bytes(anatomy, options, trials, tokens)
    return [1.0, 2 * used * 2 * tokens, anatomy.layers * 2 * tokens, values], min(taken)


WORDS = 24
"""Words of a prompt."""


def _table(folder: Path, trials: int) -> Path:
    out = folder / f"words_{trials}.parquet"
    rng = np.random.default_rng(0)
    prompts = [" ".join(f"w{i}" for i in rng.integers(3, 900, WORDS)) for _ in range(trials)]
    rows = {"condition": ["a", "b"] * (trials // 2), "prompt": prompts, "reference": "w5"}
    table = pd.DataFrame(rows).assign(item=[f"i{i}" for i in range(trials)])
    table.to_csv(folder / "words.csv", index=False)
    write_stimuli(
        out=out,
        task="words",
        options=TaskOptions("words", "table", str(folder / "words.csv"), ("item",)),
        splits=SplitOptions(),
        world=WorldOptions(),
        seed=0,
        provenance={},
    )
    return out


def maps(rounds: int) -> list[Row]:
    """Time the permutation test over units and permutations.

    Parameters
    ----------
    rounds : int
        Rounds; the least counts.

    Returns
    -------
    list of Row
        CPU seconds for each unit, trial and permutation.
    """
    rng = np.random.default_rng(0)
    rows = []
    for units, permutations in ((1000, 500), (10_000, 500), (10_000, 2000)):
        values, tested = rng.normal(size=(TRIALS, units)), rng.normal(size=TRIALS)
        orders = shuffled_rows(TRIALS, permutations, rng)
        taken = _least(
            lambda v=values, t=tested, o=orders: permuted_regression(v, t, orders=o), rounds
        )
        name = f"{units} units, {TRIALS} trials, {permutations} permutations: a cell (PER_CELL)"
        each = taken / (units * TRIALS * permutations)
        rows.append(printed(name, each * NANO, "ns", per.PER_CELL * NANO))
    return rows


def _least(call: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return min(taken)


def main() -> int:
    """Measure and report."""
    made = parser("scaling", "What grows with what, and how far off `lmri estimate` is.")
    made.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="NAME")
    made.add_argument("--rounds", type=int, default=3, help="rounds; the least counts")
    made.add_argument("--configfile", type=Path, default=Path("config/config.yaml"), help="study")
    made.add_argument("--results", type=Path, default=Path("results/default"), help="a run of it")
    arguments = made.parse_args()
    torch.set_num_threads(1)
    return report(_measured(arguments), arguments)


PARTS = ("stages", "passes", "maps")


def _measured(arguments: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    if "stages" in arguments.only:
        rows += stages(arguments.configfile, arguments.results)
    if "passes" in arguments.only:
        rows += passes(arguments.rounds)
    if "maps" in arguments.only:
        rows += maps(arguments.rounds)
    return rows


if __name__ == "__main__":
    sys.exit(main())
