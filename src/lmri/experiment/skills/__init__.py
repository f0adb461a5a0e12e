"""Removing a skill: what is forgotten in three ways, and what else is lost."""

from lmri.experiment.skills.experiment import run

__all__ = ["run"]
