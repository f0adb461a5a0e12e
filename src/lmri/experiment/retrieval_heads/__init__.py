"""Retrieval heads: those that look at the needle are switched off, and other sets of heads."""

from lmri.experiment.retrieval_heads.experiment import run

__all__ = ["run"]
