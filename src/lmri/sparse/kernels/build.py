"""What the C++ kernels are built from.

The library registers its operators with torch's dispatcher and not through ctypes, because a call
through Python costs as much as a small product.
"""

from __future__ import annotations

from lmri.native import Library

KERNELS = Library(
    title="sparse kernels",
    package="lmri.sparse.kernels",
    loops="products.cpp",
    operators="operators.cpp",
    headers=(
        "products.h",
        "sums.h",
        "arguments.h",
        "channels.h",
        "between.h",
        "active.h",
        "pages.h",
    ),
)
"""Sources beside this module."""
