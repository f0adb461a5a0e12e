"""A subject as estimates see it, and what a stage costs for it."""

from __future__ import annotations

from dataclasses import dataclass

from lmri.anatomy import Anatomy
from lmri.config import SubjectOptions
from lmri.preflight import coefficients as per
from lmri.preflight.volumes import Trials
from lmri.store.weight_files import AS_STORED, COPIES

TRAINING = 3
"""Passes that a step of training costs: one forward, and a backward of two."""


@dataclass(frozen=True)
class Reader:
    """A subject and what it reads.

    Attributes
    ----------
    options : SubjectOptions
        Of the study.
    anatomy : Anatomy
        What it is made of.
    parameters, used : int
        All of them, and those that one token passes.
    tasks : dict of str to Trials
        Trials of every task.
    """

    options: SubjectOptions
    anatomy: Anatomy
    parameters: int
    used: int
    tasks: dict[str, Trials]

    @property
    def on_gpu(self) -> bool:
        """Whether the study puts it on a GPU."""
        load = self.options.load
        return load.device_map is not None or load.device != "cpu"

    @property
    def weight_bytes(self) -> int:
        """Bytes of its files: two for a parameter, as most models are published."""
        return 2 * self.parameters

    def passes(self, tokens: float) -> float:
        """Seconds that it takes to read tokens once, on a core or a GPU."""
        rate = per.GPU_FLOPS if self.on_gpu else per.FLOPS
        overhead = 0.0 if self.on_gpu else per.PER_LAYER * self.anatomy.layers
        return tokens * (2 * self.used / rate + overhead)

    @property
    def loaded(self) -> float:
        """Bytes of memory of a job that has loaded it."""
        copies = COPIES.get(self.options.load.dtype, AS_STORED)
        return per.PROCESS + self.weight_bytes * copies

    def trained(self, tokens: float) -> float:
        """Seconds of a core that training on tokens takes."""
        return TRAINING * tokens * (2 * self.used / per.FLOPS)


@dataclass(frozen=True)
class StageCost:
    """All jobs of one stage for one subject.

    Attributes
    ----------
    stage : str
        Name of the rule.
    seconds : float
        Of a core, or of a GPU where ``gpu``; starts included.
    gpu : bool
        Whether its jobs hold a GPU.
    memory : float
        Bytes of one job, at most.
    disk : float
        Bytes that the stage leaves behind.
    """

    stage: str
    seconds: float
    gpu: bool
    memory: float
    disk: float
