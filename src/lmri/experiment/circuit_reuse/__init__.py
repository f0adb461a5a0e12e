"""Circuit reuse: what circuits of behaviours share, and do to one another."""

from lmri.experiment.circuit_reuse.experiment import run

__all__ = ["run"]
