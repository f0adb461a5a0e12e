"""What recording costs here: run in a process of its own, it prints one line of JSON.

The code is that of the stage ``record`` without its generation: :func:`lmri.record.scan.scan` into
a :class:`lmri.store.RecordingWriter`, and the manifest with its hashes. The bare pass runs the same
batches through the model and computes all logits.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.memory import peak_memory
from benchmarks.recording.subjects import read_batches
from lmri.anatomy import SPANS, Prompt, Subject, load_subject
from lmri.config import RecordOptions
from lmri.record.generation import Text
from lmri.record.phases import PHASES
from lmri.record.scan import scan
from lmri.store import RecordingWriter, manifest_path, write_manifest

SYSTEM, RESPONSE = 1 / 8, 1 / 4
"""Shares of a row that belong to the system and to the response; the rest is content."""


def record(
    subject: Subject,
    batches: list[tuple[np.ndarray, np.ndarray]],
    options: RecordOptions,
    folder: Path,
) -> None:
    """Record every row of the batches, write the store and hash it.

    Parameters
    ----------
    subject : Subject
        The subject.
    batches : list
        See :func:`benchmarks.recording.subjects.read_batches`.
    options : RecordOptions
        What is recorded.
    folder : Path
        An empty folder.
    """
    rows = [ids[:n] for batch, lengths in batches for ids, n in zip(batch, lengths, strict=True)]
    texts = [_text(ids) for ids in rows]
    trials = pd.DataFrame({"trial": [f"t{i}" for i in range(len(texts))], "condition": "random"})
    store = folder / "0.zarr"
    with RecordingWriter(store, {}, compression=options.compression) as writer:
        report = scan(subject, trials, texts, PHASES, options, writer)
        arrays = writer.close()
    write_manifest(
        store, manifest_path(store), hashes=writer.hashes, arrays=arrays, **report.to_dict()
    )


@torch.inference_mode()
def run_bare(subject: Subject, batches: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Run every batch through the model, with all logits.

    Parameters
    ----------
    subject : Subject
        The subject.
    batches : list
        See :func:`benchmarks.recording.subjects.read_batches`.
    """
    for ids, _ in batches:
        subject.model(input_ids=torch.from_numpy(ids), use_cache=False)


def measure(folder: Path, modes: dict[str, dict | None], rounds: int) -> dict[str, object]:
    """Measure modes in turn, several times.

    Parameters
    ----------
    folder : Path
        With a model and its batches.
    modes : dict of str to dict
        Options of the recorder by name; None is the bare pass.
    rounds : int
        How often; a round runs every mode once. One before the first is not counted.

    Returns
    -------
    dict
        ``cpu`` (CPU seconds of every round by mode), ``bytes`` (of the store by mode) and
        ``peak`` (most memory of the process, in MB).
    """
    subject = load_subject(folder, "random", threads=1)
    batches = read_batches(folder)
    rows = max(len(ids) for ids, _ in batches)
    cpu: dict[str, list[float]] = {name: [] for name in modes}
    sizes: dict[str, int] = {}
    for number in range(rounds + 1):
        for name, changes in modes.items():
            own = batches if number else batches[:1]
            with _scratch() as scratch:
                start = time.process_time()
                if changes is None:
                    run_bare(subject, own)
                else:
                    record(subject, own, RecordOptions(rows=rows, **changes), scratch)
                if number:
                    cpu[name].append(time.process_time() - start)
                    sizes[name] = sum(p.stat().st_size for p in scratch.rglob("*") if p.is_file())
    return {"cpu": cpu, "bytes": sizes, "peak": peak_memory()}


def _text(ids: np.ndarray) -> Text:
    said = round(len(ids) * RESPONSE)
    asked = len(ids) - said
    spans = np.full(asked, SPANS.index("content"), dtype=np.uint8)
    spans[: round(len(ids) * SYSTEM)] = SPANS.index("system")
    prompt = Prompt("", ids[:asked].tolist(), np.zeros((asked, 2), np.int64), spans, asked - 1)
    return Text(prompt, ids[asked:].astype(np.int32))


@contextlib.contextmanager
def _scratch():
    folder = Path(tempfile.mkdtemp(prefix="lmri-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Read the arguments ``FOLDER MODES ROUNDS`` (modes as JSON) and print the result."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder, modes, rounds = sys.argv[1:]
    print(json.dumps(measure(Path(folder), json.loads(modes), int(rounds))))


if __name__ == "__main__":
    main()
