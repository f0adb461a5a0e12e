"""Language network: units that respond to sentences are switched off."""

from lmri.experiment.language_network.experiment import run

__all__ = ["run"]
