"""What a recording survives: kills at random moments, and damage to random bytes.

A process writes several shards of a synthetic recording, is killed with SIGKILL at random moments,
and is started again until it is done. Then random files of the stores, metadata and manifests among
them, lose their end or have one byte changed, and ``lmri verify`` has to name each. With
``--recorder`` the process is the stage ``record`` on the embedded subject.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import pandas as pd

from benchmarks.rows import Row, at_most, parser, report
from lmri.errors import StoreError
from lmri.store import (
    Recording,
    RecordingWriter,
    atomic_directory,
    check_stores,
    finished_store,
    manifest_path,
    write_manifest,
    writing_lock,
)

PROVENANCE = {"stage": "crashes"}

MOST_OUTSIDE = 0.75
"""Share of the kills that may hit a process while it starts, or between two stores."""


class Writer(Protocol):
    """What is killed.

    Attributes
    ----------
    shards : int
        Stores that it writes.
    preload : str
        Module that its processes need, imported once.
    read : tuple of str
        Arrays that are read after a kill.
    """

    shards: int
    preload: str
    read: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Write what is not finished yet into the folder of a task."""


@dataclass(frozen=True)
class Recorded:
    """Size of the synthetic recording.

    Attributes
    ----------
    shards, batches, trials, tokens : int
        Shards of the recording, batches of a shard, trials of a batch, tokens of a trial.
    """

    shards: int = 5
    batches: int = 24
    trials: int = 8
    tokens: int = 40

    preload: ClassVar[str] = "lmri.store"
    read: ClassVar[tuple[str, ...]] = ("tokens/router/expert_id", "tokens/neuron/activation")

    def write(self, folder: Path) -> None:
        """Write what is not finished yet, as the stage ``record`` does.

        Parameters
        ----------
        folder : Path
            Folder of the task.
        """
        for shard in range(self.shards):
            store = folder / f"{shard}.zarr"
            with writing_lock(store):
                if not finished_store(store, manifest_path(store), PROVENANCE):
                    _write_shard(store, shard, self)


@dataclass
class Outcome:
    """What was found after the kills.

    Attributes
    ----------
    kills, while_writing : int
        Kills, and how many of them left a store that was being written.
    unreadable, lost, different, left : int
        Stores that cannot be read; finished shards that were damaged or written again; shards
        that are not the same to the bit in the end; files left behind.
    """

    kills: int = 0
    while_writing: int = 0
    unreadable: int = 0
    lost: int = 0
    different: int = 0
    left: int = 0


def kill_randomly(folder: Path, kills: int, seed: int, writer: Writer) -> Outcome:
    """Kill the writer at random moments, start it again until it is done, and so on.

    Parameters
    ----------
    folder : Path
        An empty folder.
    kills : int
        How many kills in all.
    seed : int
        Seed of the moments.
    writer : Writer
        What writes.

    Returns
    -------
    Outcome
        What was found after each kill and in the end.
    """
    rng = np.random.default_rng(seed)
    _run(folder / "warm", writer)  # the first process also starts the server that makes the others
    start = time.perf_counter()
    _run(folder / "whole", writer)
    longest = 2 * (time.perf_counter() - start) / writer.shards
    expected = _manifests(folder / "whole")
    outcome = Outcome()
    while outcome.kills < kills:
        task = folder / f"after-{outcome.kills}-kills"
        kept: dict[str, tuple[str, int]] = {}
        done = False
        while not done:
            patience = rng.uniform(0, longest) if outcome.kills < kills else None
            killed = _run(task, writer, patience)
            done = killed is None
            outcome.kills += not done
            outcome.while_writing += any(task.glob(f".*.zarr.{killed}-*.partial"))
            _inspect(task, writer.read, kept, outcome)
        written = _manifests(task)
        outcome.different += sum(written.get(name) != text for name, text in expected.items())
        names = {path.name for path in task.iterdir()}
        outcome.left += len(names ^ {path.name for path in (folder / "whole").iterdir()})
    return outcome


def corrupt_randomly(folder: Path, count: int, seed: int) -> tuple[int, int]:
    """Change or cut off bytes of random files, one at a time, and put them back.

    Parameters
    ----------
    folder : Path
        Folder with finished stores and their manifests.
    count : int
        How many times.
    seed : int
        Seed of files, kinds and places.

    Returns
    -------
    found, named : int
        How often ``verify`` reported a damaged store, and how often it named the file.
    """
    rng = np.random.default_rng(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = named = 0
    for _ in range(count):
        path = files[rng.integers(len(files))]
        content = path.read_bytes()
        path.write_bytes(_damaged(content, rng))
        problems = [text for checked in check_stores([folder]) for text in checked.problems]
        path.write_bytes(content)
        found += bool(problems)
        inside = str(path.relative_to(folder)).partition(".zarr/")[2] or path.name
        named += len(problems) == 1 and f"'{inside}'" in problems[0]
    return found, named


def measure(kills: int, corruptions: int, seed: int, writer: Writer) -> list[Row]:
    """Kill, corrupt, and count what went wrong.

    Parameters
    ----------
    kills, corruptions : int
        How many of each.
    seed : int
        Seed of both.
    writer : Writer
        What writes.

    Returns
    -------
    list of Row
        The counts; every bar but that of kills in vain is 0.
    """
    with tempfile.TemporaryDirectory() as name:
        outcome = kill_randomly(Path(name), kills, seed, writer)
        found, named = corrupt_randomly(Path(name) / "whole", corruptions, seed)
    after, outside = f"{outcome.kills} SIGKILLs", outcome.kills - outcome.while_writing
    damage = f"{corruptions} changed bytes and truncations"
    return [
        # Kills of what is not writing prove nothing.
        at_most(f"{after}: while no store was written", outside, MOST_OUTSIDE * kills, "kills"),
        at_most(f"{after}: unreadable stores", outcome.unreadable, 0, "stores"),
        at_most(f"{after}: lost finished shards", outcome.lost, 0, "shards"),
        at_most(f"{after}: shards that differ in the end", outcome.different, 0, "shards"),
        at_most(f"{after}: files left behind", outcome.left, 0, "files"),
        at_most(f"{damage}: not found by verify", corruptions - found, 0, "corruptions"),
        at_most(f"{damage}: file not named", corruptions - named, 0, "corruptions"),
    ]


def _write_shard(store: Path, shard: int, size: Recorded) -> None:
    rng = np.random.default_rng(shard)
    attributes = {"subject": "synthetic", "task": "crashes", "shard": shard}
    with (
        atomic_directory(store) as partial,
        RecordingWriter(partial, attributes) as writer,
    ):
        for batch in range(size.batches):
            first = batch * size.trials
            trial = np.repeat(np.arange(first, first + size.trials, dtype=np.int32), size.tokens)
            experts = rng.integers(0, 64, (len(trial), 8, 4)).astype(np.uint8)
            neurons = rng.normal(size=(len(trial), 8, 128)).astype(np.float32)
            slots = ("token", "layer", "slot")
            layers = {"layer": list(range(8))}
            writer.append("tokens/index", "trial", trial, ("token",))
            writer.append("tokens/router", "expert_id", experts, slots, layers)
            writer.append(
                *("tokens/neuron", "activation", neurons, ("token", "layer", "neuron"), layers),
                dtype="bfloat16",
            )
            pooled = neurons[:: size.tokens, :, 0]
            writer.append("pooled/layer", "norm", pooled, ("trial", "layer"), layers)
            names = [f"{shard}.{i}" for i in range(first, first + size.trials)]
            writer.append_trials(pd.DataFrame({"trial": names, "response": "é" * batch}))
        arrays = writer.close()
    write_manifest(
        store, manifest_path(store), hashes=writer.hashes, arrays=arrays, provenance=PROVENANCE
    )


def _run(folder: Path, writer: Writer, patience: float | None = None) -> int | None:
    """Run the writer; returns its process id if it was killed after so many seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([writer.preload])  # imported once, not by every process
    process = context.Process(target=writer.write, args=(folder,))
    process.start()
    process.join(patience)
    process.kill()  # nothing happens to one that has ended
    process.join()
    if process.exitcode not in {0, -signal.SIGKILL}:
        raise RuntimeError(f"the writer ended with {process.exitcode}")
    return process.pid if process.exitcode else None


def _inspect(
    task: Path, read: tuple[str, ...], kept: dict[str, tuple[str, int]], outcome: Outcome
) -> None:
    """Look at what is there after a kill; ``kept`` are the finished shards seen before."""
    for store in task.glob("[!.]*.zarr"):
        try:
            recording = Recording(store)
            for name in read:
                recording.array(name)[:]
        except (StoreError, OSError, ValueError, RuntimeError):
            outcome.unreadable += 1
    for name, finished in kept.items():
        outcome.lost += _finished(task / name) != finished
    for manifest in task.glob("[!.]*.manifest.json"):
        store = manifest.name.removesuffix(".manifest.json")
        kept.setdefault(store, _finished(task / store))


def _finished(store: Path) -> tuple[str, int]:
    """Return the manifest of a store and when it was written; an empty text if it is damaged."""
    manifest = manifest_path(store)
    if not finished_store(store, manifest, PROVENANCE):
        return "", 0
    return manifest.read_text(encoding="utf-8"), manifest.stat().st_mtime_ns


def _manifests(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.manifest.json")}


def _damaged(content: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(len(content)))
    if rng.random() < 0.5:
        return content[:place]
    changed = bytearray(content)
    changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


def main() -> int:
    """Measure and report."""
    made = parser("crashes", "What a recording survives: kills and damaged bytes.")
    made.add_argument("--kills", type=int, default=200, help="kills at random moments")
    made.add_argument("--corruptions", type=int, default=500, help="damaged files")
    made.add_argument("--seed", type=int, default=0, help="seed of both")
    made.add_argument("--recorder", action="store_true", help="kill the stage record itself")
    arguments = made.parse_args()
    with tempfile.TemporaryDirectory() as name:
        writer = _recorder(Path(name)) if arguments.recorder else Recorded()
        rows = measure(arguments.kills, arguments.corruptions, arguments.seed, writer)
    return report(rows, arguments)


def _recorder(folder: Path) -> Writer:
    from benchmarks.recording.killed import Recorder  # torch, which synthetic shards do not need

    return Recorder.prepared(folder, PROVENANCE, trials=120)


if __name__ == "__main__":
    sys.exit(main())
