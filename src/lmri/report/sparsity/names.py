"""Words of the page of sparsity."""

from __future__ import annotations

import numpy as np

from lmri.report import words

POLICIES = {
    "cache_heads": "cache of few heads",
    "cache_random": "cache of random heads",
    "cats": "CATS",
    "cett": "CETT",
    "chess": "CHESS",
    "fatrelu": "FATReLU",
    "ppl_search": "CETT by perplexity",
    "relu": "ReLU",
    "skip_experts": "skipped experts",
    "statistical_top_k": "statistical top-k",
    "teal": "TEAL",
    "teal_down": "TEAL, down only",
    "teal_greedy": "TEAL, greedy",
    "top_k": "top-k",
    "wina": "WINA",
    "wina_k_gate": "WINA, keys and gate",
}
"""Names of policies for people."""

PREFIXES = ("", "k", "M", "G", "T")
"""Of a unit, by powers of a thousand."""

SOURCE = "sparse/<subject>/runs/{}.parquet"


def policy_name(policy: str) -> str:
    """Name a policy for people."""
    return POLICIES.get(policy, words.readable(policy))


def percent(share: float) -> str:
    """Write a share in percent."""
    return words.NOTHING if share is None or not np.isfinite(share) else f"{100 * share:.3g} %"


def amount(value: float, unit: str) -> str:
    """Write an amount to three digits, with the prefix of its thousands."""
    if not np.isfinite(value):
        return words.NOTHING
    steps = 0
    while float(f"{value:.3g}") >= 1000 and steps + 1 < len(PREFIXES):
        value, steps = value / 1000, steps + 1
    return f"{value:.3g} {PREFIXES[steps]}{unit}"
