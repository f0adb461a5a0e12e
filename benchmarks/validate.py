"""What validation costs beside generating draw after draw, and what it says where nothing is.

- ``planted``: circuits whose weights are known (see :mod:`benchmarks.validation.planted`), from
  stimuli to verdict: the only writer of the refusal, two that back each other up, and one that is
  selective and not read.
- ``nulls``: 1,000 simulated studies of each null (see :mod:`benchmarks.validation.simulated`), in
  this process: how many say "confirmed" (fewer than the 99 % point of a nominal 5 % may), after a
  check that control draws vary in at least half of the studies. Each null is shown to matter by
  what the same studies say without the part of the rule that it is for: layer-matched draws in
  place of sham maps, no control draw, no bystander. Nothing here is timed but the CPU time of a
  study.
- ``speed``: 99 control draws x 4 doses on 120 trials (8 new tokens) of the embedded subject
  ``localised``, in a process of its own: ours in two stages as a validation runs them (onset of
  every draw; free responses without and under the finding), against ``generate`` of transformers
  with hooks that mask experts, one draw after another. Both sides in turn in one run with one
  thread; CPU time has the bar and the time on the clock stands beside. Printed: free responses
  under every draw of ours, which a verdict does not need, and draws that hardly ever are the same.
- ``growth``: CPU time of twice the draws, doses and trials, and the most memory held at four times
  the draws, each a process of its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from scipy.stats import binom

from benchmarks.rows import (
    Parts,
    Row,
    at_most,
    cheaper,
    part_parser,
    printed,
    report_parts,
    run,
)
from benchmarks.validation.planted import FIRST, LAYER, SECOND, judge, write_study
from benchmarks.validation.simulated import EVIDENCE, NULLS, Outcome, simulate

PLANTED = {
    "sole": ("confirmed", [[LAYER, FIRST]]),
    "backup": ("confirmed", [[LAYER, FIRST], [LAYER, SECOND]]),
    "decoy": ("refuted", [[LAYER, FIRST]]),
}
"""Verdict and units of every circuit; of the back-up neither unit alone reaches the effect."""

STUDIES = 1000
"""Of each null, unless asked otherwise."""

WITHOUT = {
    "nothing": ("uncontrolled", "without control draws"),
    "load": ("by_layer", "with layer-matched draws deciding"),
    "entities": ("unpaired", "without bystanders"),
}
"""What each null is there to see, and what studies say without it."""

DRAWS, TRIALS, DOSES = 99, 120, (1, 2, 4, 8)
SPEEDUP = 2.5
SECONDS = 0.3
"""CPU time of a simulated study, at most."""

LINEAR, CONSTANT = 2.2, 1.1
"""Most that twice the work may cost, and memory at four times the draws, as multiples."""


def planted() -> Iterator[Row]:
    """Put the finding of every planted circuit to the test.

    Yields
    ------
    Row
        The effect of each, which holds where verdict, units and dose are what was planted.
    """
    for circuit, (word, units) in PLANTED.items():
        with tempfile.TemporaryDirectory() as folder:
            write_study(Path(folder), circuit)
            *_, verdicts = judge(Path(folder))
        (found,) = verdicts.to_dict("records")
        held = found["verdict"] == word and sorted(json.loads(found["units"])) == units
        yield Row(
            f"planted, {circuit}: {found['verdict']}, {found['dose']} off, the behaviour falls by",
            *(found["effect"], None, None),
            bar=f"{word} for {units}",
            unit="share of trials",
            status="held" if held else "failed",
        )


def nulls(studies: int) -> Iterator[Row]:
    """Simulate studies of every null.

    Parameters
    ----------
    studies : int
        Of each.

    Yields
    ------
    Row
        How many say "confirmed", and what shows that the null can be failed.
    """
    for null in NULLS:
        started = time.process_time()
        outcomes = [simulate(null, seed) for seed in range(studies)]
        seconds = (time.process_time() - started) / studies
        yield from null_rows(null, outcomes)
        yield at_most(f"{null}: CPU time of a study", seconds, SECONDS, "CPU s")


def null_rows(null: str, outcomes: Sequence[Outcome]) -> Iterator[Row]:
    """Say what studies of a null came to.

    Parameters
    ----------
    null : str
        Its name.
    outcomes : sequence of Outcome
        Of its studies.

    Yields
    ------
    Row
        False confirmations, variation of the draws, and how many the same studies would confirm
        without what the null is for.
    """
    count, unit = len(outcomes), "studies"
    most = int(binom.ppf(0.99, count, EVIDENCE.alpha)) - 1
    varied = sum(outcome.varied for outcome in outcomes)
    figure = f"{null}: of {count} studies"
    yield _at_least(f"{figure}, control draws vary", varied, count / 2, unit)
    confirmed = sum(outcome.verdict == "confirmed" for outcome in outcomes)
    yield at_most(f'{figure}, "confirmed"', confirmed, most, unit)
    name, words = WITHOUT[null]
    fooled = sum(getattr(outcome, name) == "confirmed" for outcome in outcomes)
    yield _at_least(f'{figure}, "confirmed" {words}', fooled, most + 1, unit)
    mapped = sum(outcome.mapped for outcome in outcomes)
    yield printed(f"{figure}, a map that is significant", mapped, unit)


def speed(rounds: int) -> Iterator[Row]:
    """Compare control draws with generating one after another.

    Parameters
    ----------
    rounds : int
        Rounds; the best counts.

    Yields
    ------
    Row
        Time of two stages, and of free responses.
    """
    for kind, words in (("sham", "sham maps"), ("random", "random sets")):
        own = [_measured("compare", kind, DRAWS, TRIALS, DOSES) for _ in range(rounds)]
        figure = f"speed: {DRAWS} {words} x {len(DOSES)} doses x {TRIALS} trials"
        for clock, unit in (("cpu", "CPU s"), ("wall", "s")):
            ours, free, theirs = (
                min(one[side][clock] for one in own) for side in ("two_stages", "free", "theirs")
            )
            if kind == "sham" and clock == "cpu":
                yield cheaper(f"{figure}, two stages", ours, theirs, SPEEDUP, unit)
            else:
                yield printed(f"{figure}, two stages", ours, unit, theirs)
            yield printed(f"{figure}, all free responses", free, unit, theirs)
        yield printed(f"{figure}, different sets", own[0]["different"], "sets")


def growth(rounds: int) -> Iterator[Row]:
    """Measure what more draws, doses and trials cost.

    Parameters
    ----------
    rounds : int
        Rounds; the best counts.

    Yields
    ------
    Row
        Time and memory as multiples.
    """
    sizes = {
        "once": (24, 60, DOSES[2:]),
        "draws": (48, 60, DOSES[2:]),
        "doses": (24, 60, (3, 4, 6, 8)),
        "trials": (24, 120, DOSES[2:]),
        "four times the draws": (96, 60, DOSES[2:]),
    }
    seconds, peaks = ({name: [] for name in sizes} for _ in range(2))
    # In turn, so that other work on the machine slows all of them alike.
    for _ in range(rounds):
        for name, size in sizes.items():
            measured = _measured("cost", "random", *size)
            seconds[name].append(measured["two_stages"]["cpu"])
            peaks[name].append(measured["peak"])
    for name in ("draws", "doses", "trials"):
        ratio = min(seconds[name]) / min(seconds["once"])
        yield at_most(f"growth: CPU time of twice the {name}", ratio, LINEAR, "times")
    ratio = max(peaks["four times the draws"]) / max(peaks["once"])
    yield at_most("growth: memory of four times the draws", ratio, CONSTANT, "times")


def _measured(command: str, kind: str, draws: int, trials: int, doses: Sequence[int]) -> dict:
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    text = run("validation.draws", command, kind, draws, trials, *doses, variables=one_thread)
    return json.loads(text.splitlines()[-1])


def _at_least(figure: str, ours: float, least: float, unit: str) -> Row:
    status = "held" if ours >= least else "failed"
    return Row(figure, ours, None, None, f"at least {least:g} {unit}", unit, status)


PARTS: Parts = {
    "planted": lambda rounds: planted(),
    "nulls": lambda rounds: nulls(STUDIES),
    "speed": speed,
    "growth": growth,
}


def main() -> int:
    """Measure and report."""
    made = part_parser("validate", "What validation costs, and what it says of nothing.", PARTS, 3)
    made.add_argument("--studies", type=int, default=STUDIES, help="simulated studies of each null")
    arguments = made.parse_args()
    parts = {**PARTS, "nulls": lambda rounds: nulls(arguments.studies)}
    return report_parts(parts, arguments)


if __name__ == "__main__":
    sys.exit(main())
