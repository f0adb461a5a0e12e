"""What recording costs here: run in a process of its own, it measures once for each line it reads.

The code is that of the stage ``record`` without its generation: :func:`lmri.record.scan.scan` into
a :class:`lmri.store.RecordingWriter`, and the manifest with its hashes. The bare pass runs the same
batches through the model and computes all logits.
"""

from __future__ import annotations

import json
import os
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


class Reading:
    """Measures modes in turn; once at the beginning, on one batch, that is not counted.

    Parameters
    ----------
    folder : Path
        With a model and its batches.
    modes : dict of str to dict
        Options of the recorder by name; None is the bare pass.
    """

    def __init__(self, folder: Path, modes: dict[str, dict | None]) -> None:
        self._subject = load_subject(folder, "random", threads=1)
        self._batches = read_batches(folder)
        self._rows = max(len(ids) for ids, _ in self._batches)
        self._modes = modes
        self._scratch: tempfile.TemporaryDirectory | None = None
        for name in modes:
            self._seconds(name, self._batches[:1])

    def measure(self) -> dict[str, object]:
        """Run every mode once.

        Returns
        -------
        dict
            ``cpu`` (CPU seconds by mode), ``clock`` (seconds on the clock by mode) and ``peak``
            (most memory of the process so far, in MB).
        """
        spent = {name: self._seconds(name, self._batches) for name in self._modes}
        cpu = {name: seconds for name, (seconds, _) in spent.items()}
        clock = {name: seconds for name, (_, seconds) in spent.items()}
        return {"cpu": cpu, "clock": clock, "peak": peak_memory()}

    def _seconds(
        self, name: str, batches: list[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[float, float]:
        changes = self._modes[name]
        # What was written last time goes now, as the peers drop what they kept: the host of a
        # virtual machine takes memory that lies free for seconds, and it is dear to get back.
        if self._scratch is not None:
            self._scratch.cleanup()
        self._scratch = tempfile.TemporaryDirectory(prefix="lmri-bench-")
        start, began = time.process_time(), time.perf_counter()
        if changes is None:
            run_bare(self._subject, batches)
        else:
            options = RecordOptions(rows=self._rows, **changes)
            record(self._subject, batches, options, Path(self._scratch.name))
        return time.process_time() - start, time.perf_counter() - began


def _text(ids: np.ndarray) -> Text:
    said = round(len(ids) * RESPONSE)
    asked = len(ids) - said
    spans = np.full(asked, SPANS.index("content"), dtype=np.uint8)
    spans[: round(len(ids) * SYSTEM)] = SPANS.index("system")
    prompt = Prompt("", ids[:asked].tolist(), np.zeros((asked, 2), np.int64), spans, asked - 1)
    return Text(prompt, ids[asked:].astype(np.int32))


def main() -> None:
    """Read the arguments ``FOLDER MODES`` (modes as JSON); answer each line with one of JSON."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder, modes = sys.argv[1:]
    reading = Reading(Path(folder), json.loads(modes))
    for _ in sys.stdin:
        print(json.dumps(reading.measure()), flush=True)


if __name__ == "__main__":
    main()
