"""A replication of Chelombiev, Houghton and O'Donnell 2019 with small networks."""

from lmri.information.bottleneck.training import train_bottleneck

__all__ = ["train_bottleneck"]
