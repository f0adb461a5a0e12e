"""Relation-specific units: what relations lose without the units of each."""

from lmri.experiment.relations.experiment import run

__all__ = ["run"]
