"""What recording costs: against a bare forward pass, TransformerLens and nnsight, and in memory.

Two random models (see :mod:`benchmarks.recording.subjects`) read batches of about 128 random
tokens with one torch thread. Ours is the whole way of the stage ``record`` without generation:
hooks, pooling, log-probabilities, compression, files, hashes.

- Against a bare forward pass with all logits, in CPU time, user and system, of all threads of a
  process, which depends less than time on the clock on what else a machine does: one process runs
  the bare pass and every mode of the recorder in turn, several rounds; the least of each counts.
  ``pooled`` is the router's ids and weights in full and its logits pooled, the pooled residual at
  three places, head and value norms, and log-probability and entropy of the next token; the other
  modes add to it.
- Against the peers, in throughput: on the clock, where ours writes in a thread of its own while the
  model computes. CPU time is printed beside it. All keep the same quantities of every token. The
  peers keep them in memory, as float16; we write them, and pool them too. OLMoE: residual at three
  places, router. GPT-2: residual at three places, neurons. Nobody is asked for logits
  (``next_token: false``). Each side is a process of its own; they take turns to read all batches,
  one at a time, several rounds; the least counts. ``unfiltered`` is the peer with everything it can
  keep.
- Memory: the most that a process ever held while all trials, short ones, were kept by each.
- Writing alone, on the clock: with two threads against one.

The peers are installed in an environment of their own the first time; where that fails their rows
are ``not_measured``. Crashes are those of ``python -m benchmarks.crashes``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.recording.environment import PeersMissingError, peers_python, peers_variables
from benchmarks.recording.sides import Side, SideError
from benchmarks.recording.subjects import save_batches, save_model
from benchmarks.recording.writing import writing
from benchmarks.rows import Row, at_most, cheaper, parser, printed, report

POOLED = ("router", "residual", "head")
MODES = {
    "bare": None,
    "pooled": {"quantities": POOLED},
    "pooled and attention": {"quantities": (*POOLED, "attention")},
    "pooled and full neurons": {"quantities": (*POOLED, "neuron"), "full": ("neuron",)},
    "pooled and full neurons, uncompressed": {
        "quantities": (*POOLED, "neuron"),
        "full": ("neuron",),
        "compression": "none",
    },
}
BARS = dict(zip(list(MODES)[1:], (1.10, 1.25, 1.45, 1.30), strict=True))
FULL = {
    architecture: {"quantities": kept, "full": kept, "next_token": False}
    for architecture, kept in {
        "olmoe": ("router", "residual"),
        "gpt2": ("residual", "neuron"),
    }.items()
}
PEERS = {
    ("transformer_lens", "filtered"): {"olmoe": 1.1, "gpt2": 1.0},
    ("transformer_lens", "unfiltered"): {"olmoe": 1.4, "gpt2": 1.1},
    ("nnsight", "filtered"): {"olmoe": 0.9, "gpt2": 0.9},
}
"""How many times cheaper ours has to be."""

TIMES = ("clock", "cpu")
"""How the time of a reading is measured against the peers."""

SHORTEST, LONGEST = 120, 136
"""Tokens of a trial."""

SHORT = 16
"""Tokens of a trial where memory is measured: ten thousand of them take a minute."""

READINGS = 4
"""Times that a process reads all batches: machines that others use have slow spells of seconds."""

GROWTH = 10.0
"""Per cent by which the memory of ten times the trials may differ."""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes
    ----------
    trials, rows : dict of str to int
        By architecture: trials in all and of a batch.
    kept : int
        Trials that are kept where memory is measured.
    appends : int
        Times 25 MB that are written where threads are compared.
    rounds : int
        Rounds; the best counts.
    """

    trials: dict[str, int]
    rows: dict[str, int]
    kept: int
    appends: int
    rounds: int


def whole(rounds: int) -> Size:
    """Return the size that the figures are reported for."""
    return Size({"olmoe": 256, "gpt2": 24}, {"olmoe": 16, "gpt2": 8}, 10_000, 40, rounds)


def quick() -> Size:
    """Return a size that shows that the benchmark works, and little more."""
    return Size({"olmoe": 32, "gpt2": 4}, {"olmoe": 16, "gpt2": 4}, 200, 2, 1)


def measure(size: Size) -> Iterator[Row]:
    """Measure costs, throughput and memory.

    Parameters
    ----------
    size : Size
        How much.

    Yields
    ------
    Row
        One for each bar.
    """
    with tempfile.TemporaryDirectory() as name:
        for architecture in size.trials:
            folder = Path(name) / architecture
            save_model(folder, architecture)
            rows = size.rows[architecture]
            save_batches(folder, size.trials[architecture], SHORTEST, LONGEST, rows)
            yield from against_bare(folder, architecture, size.rounds)
            yield from against_peers(folder, architecture, size.rounds)
        yield from memory(Path(name) / "olmoe", size.kept)
    yield from writing(size.appends, size.rounds * READINGS)


def against_bare(folder: Path, architecture: str, rounds: int) -> Iterator[Row]:
    """Compare every mode with a bare forward pass.

    Parameters
    ----------
    folder : Path
        With the model and its batches.
    architecture : str
        Its name.
    rounds : int
        How many, of :data:`READINGS` readings each; the least counts.

    Yields
    ------
    Row
        One for each mode.
    """
    with _ours(folder, MODES) as side:
        found = [side.measure()["cpu"] for _ in range(READINGS * rounds)]
    spent = {mode: min(reading[mode] for reading in found) for mode in MODES}
    for mode, bar in BARS.items():
        ours, bare = spent[mode], spent["bare"]
        status = "held" if ours <= bar * bare else "failed"
        figure = f"{architecture}: {mode}, against a bare pass"
        text = f"at most {bar:.2f} times the CPU time"
        yield Row(figure, ours, bare, bare / ours, text, "CPU s", status)


def against_peers(folder: Path, architecture: str, rounds: int) -> Iterator[Row]:
    """Compare full recordings with what the peers keep in memory.

    Parameters
    ----------
    folder : Path
        With the model and its batches.
    architecture : str
        Its name.
    rounds : int
        How many; the best counts.

    Yields
    ------
    Row
        Two for each peer and variant: throughput, and processor time, which has no bar.
    """
    spent: dict[object, list[dict]] = {side: [] for side in ("ours", *PEERS)}
    missing: dict[object, str] = {}
    for _ in range(rounds):
        _take_turns(folder, architecture, spent, missing)
    for side, bars in PEERS.items():
        figure = f"{architecture}: full tokens, against {' '.join(side)}"
        if side in missing:
            yield _not_measured(figure, missing[side], "s")
            continue
        ours, theirs = (
            {time: min(own[time] for own in spent[name]) for time in TIMES}
            for name in ("ours", side)
        )
        yield cheaper(figure, ours["clock"], theirs["clock"], bars[architecture], "s")
        yield printed(f"{figure}: of processors", ours["cpu"], "CPU s", theirs["cpu"])


def _take_turns(
    folder: Path,
    architecture: str,
    spent: dict[object, list[dict]],
    missing: dict[object, str],
) -> None:
    """Have each side read all batches, then each again: a slow spell falls on all of them."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(_ours(folder, {"full": FULL[architecture]}))
        peers = {}
        for side in PEERS:
            try:
                peers[side] = stack.enter_context(_peer(folder, architecture, *side))
            except PeersMissingError as error:
                missing[side] = str(error)
        for _ in range(READINGS):
            said = ours.measure()
            spent["ours"].append({time: said[time]["full"] for time in TIMES})
            for side, process in peers.items():
                if side in missing:
                    continue
                try:
                    spent[side].append(process.measure())
                except SideError as error:
                    missing[side] = str(error)


def memory(folder: Path, trials: int) -> Iterator[Row]:
    """Compare the most memory held, with the peers and with a tenth of the trials.

    Parameters
    ----------
    folder : Path
        With the model of ``olmoe``.
    trials : int
        Trials that are kept.

    Yields
    ------
    Row
        One for each peer, and one for the growth.
    """
    modes = {"full": FULL["olmoe"]}
    save_batches(folder, trials // 10, SHORT, SHORT, 64)
    few = _peak(_ours(folder, modes))
    save_batches(folder, trials, SHORT, SHORT, 64)
    many = _peak(_ours(folder, modes))
    growth = f"olmoe: peak memory, {trials // 10} and {trials} trials of {SHORT} tokens: difference"
    yield at_most(growth, 100 * abs(many / few - 1), GROWTH, "%")
    for peer in dict.fromkeys(name for name, _ in PEERS):
        figure = f"olmoe: peak memory, {trials} trials of {SHORT} tokens, against {peer}"
        try:
            theirs = _peak(_peer(folder, "olmoe", peer, "filtered"))
        except (PeersMissingError, SideError) as error:
            yield _not_measured(figure, str(error), "MB")
        else:
            yield cheaper(figure, many, theirs, 2.0, "MB")


def _ours(folder: Path, modes: dict[str, dict | None]) -> Side:
    command = [sys.executable, "-m", "benchmarks.recording.ours", str(folder), json.dumps(modes)]
    return Side(command, {**os.environ, "OMP_NUM_THREADS": "1"})


def _peer(folder: Path, architecture: str, peer: str, variant: str) -> Side:
    script = Path(__file__).parent / "recording" / "peers.py"
    command = [str(peers_python()), str(script), str(folder), architecture, peer, variant]
    return Side(command, peers_variables())


def _peak(opened: Side) -> float:
    with opened as side:
        return side.measure()["peak"]


def _not_measured(figure: str, reason: str, unit: str) -> Row:
    text = f"not measured: the peer could not be installed or run ({reason})"
    return Row(figure, None, None, None, text, unit, "not_measured")


def crashes() -> list[Row]:
    """Run ``python -m benchmarks.crashes``.

    In a process of its own: those that it kills would begin with the imports of this module, which
    take longer than to write a store.

    Returns
    -------
    list of Row
        Its rows.
    """
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "crashes.json"
        command = [sys.executable, "-m", "benchmarks.crashes", "--json", str(path)]
        # The exit code only says whether a bar failed, as the rows do.
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))]


def main() -> int:
    """Measure and report."""
    made = parser("record", "What recording costs, beside a bare pass and its peers.")
    made.add_argument("--rounds", type=int, default=3, help="rounds; the best counts")
    made.add_argument("--quick", action="store_true", help="few trials, one round, no crashes")
    arguments = made.parse_args()
    size = quick() if arguments.quick else whole(arguments.rounds)
    rows = list(measure(size))
    if not arguments.quick:
        rows += crashes()
    return report(rows, arguments)


if __name__ == "__main__":
    sys.exit(main())
