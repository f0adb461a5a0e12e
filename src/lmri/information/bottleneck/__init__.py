"""A replication of Chelombiev, Houghton and O'Donnell 2019 with small networks."""

from lmri.information.bottleneck.summary import summarise_bottleneck
from lmri.information.bottleneck.training import train_bottleneck

__all__ = ["summarise_bottleneck", "train_bottleneck"]
