"""How units work together: functional connectivity over trials, cycles and communities."""

from lmri.connect.activity import Activity, read_activity
from lmri.connect.communities import communities
from lmri.connect.differences import difference
from lmri.connect.edges import edge_test
from lmri.connect.graphs import cycle_map, strongest_edges, triangles
from lmri.connect.job import connect_subject
from lmri.connect.measures import connectivity
from lmri.connect.routing_null import routing_shuffle

__all__ = [
    "Activity",
    "communities",
    "connect_subject",
    "connectivity",
    "cycle_map",
    "difference",
    "edge_test",
    "read_activity",
    "routing_shuffle",
    "strongest_edges",
    "triangles",
]
