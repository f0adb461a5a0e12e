"""Steering: a direction of the residual that is to switch a behaviour on and off."""

from lmri.experiment.steering.experiment import run

__all__ = ["run"]
