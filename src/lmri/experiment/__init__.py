"""Experiments: what a study asks of a subject beyond its findings, with claims fixed in code."""

from lmri.experiment.job import run_experiment
from lmri.experiment.outcome import Drawn, Ground, Outcome, Statement
from lmri.experiment.registry import EXPERIMENTS, Experiment

__all__ = [
    "EXPERIMENTS",
    "Drawn",
    "Experiment",
    "Ground",
    "Outcome",
    "Statement",
    "run_experiment",
]
