"""Examples: the tokens that single units respond to, and trials token by token."""

from lmri.examples.facets import facets_of
from lmri.examples.job import find_examples
from lmri.examples.strongest import Example, Strongest

__all__ = ["Example", "Strongest", "facets_of", "find_examples"]
