"""Running models sparsely: :func:`sparse` swaps their modules for ones that skip by a plan."""

from lmri.sparse.runtime.counts import Counts, ProjectionCount, RuleCount, Total
from lmri.sparse.runtime.session import Session, sparse

__all__ = ["Counts", "ProjectionCount", "RuleCount", "Session", "Total", "sparse"]
