"""Words of the page of information."""

from __future__ import annotations

from lmri.report import words

ESTIMATORS = {
    "compressed": "neighbours",
    "copula": "Gaussian copula, inputs and states",
    "ebab": "bins",
    "kt_lower": "kernel, lower bound",
    "kt_upper": "kernel, upper bound",
    "pair": "KSG, inputs and states",
    "plug_in": "choice of experts",
    "probe": "held-out probe",
    "ross": "neighbours (Ross)",
}
"""Names of estimators for people."""

FLAGS = {
    "ceiling": "at its ceiling",
    "dependent_tokens": "dependent samples",
    "dimension": "too few samples for the dimension",
    "failed_null": "no more than chance",
    "instability": "unstable",
    "negativity": "below zero",
    "saturation": "saturated: any labels could be read off",
}
"""What each flag means, in a few words."""

SOURCE = "analyses/information/<subject>/<task>.{}.zarr"


def estimator_name(name: str) -> str:
    """Name an estimator, with its noise where it is swept: ``kt_upper 0.1 I(X;T)``."""
    first, *rest = name.split()
    noise = f", noise {rest[0]}" if len(rest) > 1 else ""
    return f"{ESTIMATORS.get(first, words.readable(first))}{noise}"


def target_name(target: str) -> str:
    """Name an attribute of trials: ``class of the place``."""
    if target.startswith("class_"):
        return f"class of the {words.readable(target.removeprefix('class_'))}"
    return words.readable(target)


def flag_names(flags: list[str]) -> str:
    """Say why a number should not be read as what it is called; empty without a flag."""
    return "; ".join(FLAGS.get(own, words.readable(own)) for own in flags)
