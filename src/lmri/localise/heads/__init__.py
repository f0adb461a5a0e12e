"""Attention heads: what they attend to, what they copy, when they rest."""

from lmri.localise.heads.copying import copying_map
from lmri.localise.heads.patterns import pattern_map
from lmri.localise.heads.retrieval import retrieval_map
from lmri.localise.heads.series import head_series, head_table
from lmri.localise.heads.sinks import activity_map, drain_map, sink_map

__all__ = [
    "activity_map",
    "copying_map",
    "drain_map",
    "head_series",
    "head_table",
    "pattern_map",
    "retrieval_map",
    "sink_map",
]
