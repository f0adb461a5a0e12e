"""The stage ``record`` itself as what is killed by ``python -m benchmarks.crashes --recorder``."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lmri.config import RecordOptions, SplitOptions, TaskOptions, WorldOptions
from lmri.record import record_task
from lmri.stimuli import write_stimuli
from lmri.store import manifest_path
from lmri.subjects.packaged import install_embedded

STATE = "localised"


@dataclass(frozen=True)
class Recorder:
    """A recording of the embedded subject on sequences that it is asked to copy.

    Attributes
    ----------
    folder : Path
        With the subject and the stimuli, see :meth:`prepared`.
    provenance : dict
        Of every store.
    shards : int
        Stores.
    """

    folder: Path
    provenance: dict
    shards: int = 3

    preload: ClassVar[str] = "lmri.record"
    read: ClassVar[tuple[str, ...]] = ("tokens/router/expert_id", "tokens/residual/residual")

    @classmethod
    def prepared(cls, folder: Path, provenance: dict, trials: int) -> Recorder:
        """Write the subject and the stimuli.

        Parameters
        ----------
        folder : Path
            Where to.
        provenance : dict
            Of every store.
        trials : int
            Trials in all.

        Returns
        -------
        Recorder
            Ready to write.
        """
        install_embedded(STATE, folder / "model")
        write_stimuli(
            out=folder / "copying.parquet",
            task="copying",
            options=TaskOptions("copying", "world", trials=trials),
            splits=SplitOptions(0.4, 0.3, 0.3),
            world=WorldOptions(),
            seed=0,
            provenance={},
        )
        return cls(folder, provenance)

    def write(self, folder: Path) -> None:
        """Record what is not finished yet.

        Parameters
        ----------
        folder : Path
            Folder of the task.
        """
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
            for shard in range(self.shards):
                self._record(folder / f"{shard}.zarr", shard)

    def _record(self, store: Path, shard: int) -> None:
        record_task(
            out=store,
            manifest=manifest_path(store),
            subject=STATE,
            model=self.folder / "model",
            task="copying",
            stimuli=self.folder / "copying.parquet",
            shard=shard,
            options=RecordOptions(
                quantities=("router", "residual", "head", "attention", "neuron"),
                full=("router", "residual"),
                splits=("selection", "calibration", "evaluation"),
                shards=self.shards,
                rows=8,
            ),
            seed=0,
            provenance=self.provenance,
        )
