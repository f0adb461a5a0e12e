"""What a unit of work costs: the numbers behind ``lmri estimate``.

Those of starts, reading, recording and maps were measured by ``python -m benchmarks.scaling``,
which prints them anew, as CPU time beside other work; those of analyses and experiments were chosen
so that they fit the studies of ``config/studies/``. docs/scaling.md tells how far off they are.
"""

from __future__ import annotations

START = 5.0
"""CPU seconds until a job does something: Python, torch, transformers, and its inputs."""

FLOPS = 7e10
"""Floating point operations a second of one core in the products of a model in float32."""

PER_LAYER = 5e-6
"""CPU seconds for each token and layer, beside its products: what small models pay most for."""

PER_BYTE = 12e-9
"""CPU seconds for each byte of values that is recorded: pooling, compressing, writing."""

PER_CELL = 0.03e-9
"""CPU seconds of a map for each unit, trial and permutation."""

PER_MAP = 0.6
"""CPU seconds of a map whatever its size."""

PER_MEASURE = 7e-3
"""CPU seconds of a measure of information for each trial and phase, its nulls included."""

PER_FIT = 2e-7
"""CPU seconds of encoding for each unit, trial and fit: one, and one for each band and draw."""

PER_PROBE = 0.2
"""CPU seconds of decoding for each analysis, task, position and layer, its null included."""

PER_NETWORK = 5.0
"""CPU seconds of the graph of one kind of units on one task and phase, its nulls included."""

PER_PAIR = 0.8
"""CPU seconds of what a layer of two subjects shares, by quantity, task and phase."""

PER_EPOCH = 2.6e-3
"""CPU seconds of an epoch of one small network."""

PER_SHOWN = 0.8
"""CPU seconds of examples, for each task."""

PER_PLANNED = 0.5
"""Of reading a text under each plan of an experiment: the rest is shared by plans, in one batch."""

PER_STEP = 0.01
"""CPU seconds of a step of training a small base, beside its products."""

GPU_FLOPS = 2e13
"""Operations a second on a GPU. Assumed, not measured: a fifteenth of what an A100 can do."""

COMPRESSED = 0.5
"""Bytes on disk for each byte of values that is recorded."""

PER_UNIT = 45.0
"""Bytes on disk of a map for each unit."""

PER_MAP_FILE = 60_000.0
"""Bytes on disk of a map whatever its size, its finding included."""

PER_SUBJECT = 2e6
"""Bytes on disk of what the report and the other stages keep of a subject."""

PROCESS = 0.5e9
"""Bytes of memory of a job that has loaded its libraries."""

MAPPING = 0.4e9
"""Bytes of memory of the maps beside, whatever the number of trials: they are streamed."""

SCHEDULED = {"local": 0.05, "slurm": 15.0}
"""Seconds that a job takes beside its own time: of the clock, so more on a busy machine."""
