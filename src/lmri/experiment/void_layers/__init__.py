"""Void layers: what hardly changes a token is passed over, beside other choices of as much."""

from lmri.experiment.void_layers.experiment import run

__all__ = ["run"]
