"""Copy transition: a base is trained again with heads held at patterns."""

from lmri.experiment.copy_transition.experiment import run

__all__ = ["run"]
