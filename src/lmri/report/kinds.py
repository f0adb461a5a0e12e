"""Kinds of units, and the names of maps, in words.

The report knows files only, so the words stand here and not beside the code that makes the maps;
a test compares them with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lmri.report import words
from lmri.store import FIRST_QUANTITY


@dataclass(frozen=True)
class Noun:
    """How units of a kind are called.

    Attributes
    ----------
    one, many : str
        Singular and plural.
    full : str
        Plural that tells them from other kinds of the same name.
    dims : tuple of str
        What names a unit, its layer first.
    """

    one: str
    many: str
    full: str
    dims: tuple[str, ...]

    @property
    def written(self) -> str:
        """How the name of a unit is written: ``layer:expert``."""
        return ":".join(self.dims)

    def count(self, number: int) -> str:
        """Write a number of units: ``1 expert``, ``2 experts``."""
        return f"{number} {self.one if number == 1 else self.many}"

    def span(self, numbers: Iterable[int]) -> str:
        """Write how many units several sets have: ``2 experts each``, ``1 to 8 experts``."""
        known = sorted({int(number) for number in numbers})
        if len(known) == 1:
            return f"{self.count(known[0])} each"
        return f"{known[0]} to {self.count(known[-1])}"


KINDS = {
    "expert": Noun("expert", "experts", "experts", ("layer", "expert")),
    "neuron": Noun("neuron", "neurons", "neurons of dense layers", ("layer", "neuron")),
    "shared_neuron": Noun("neuron", "neurons", "neurons of shared experts", ("layer", "neuron")),
    "expert_neuron": Noun("neuron", "neurons", "neurons of experts", ("layer", "expert", "neuron")),
    "head": Noun("head", "heads", "attention heads", ("layer", "head")),
    "residual": Noun(
        "dimension", "dimensions", "dimensions of the residual", ("layer", "dimension")
    ),
    "residual_site": Noun("site", "sites", "sites of the residual", ("layer", "place")),
    "feature": Noun("feature", "features", "features of a dictionary", ("layer", "feature")),
    "layer": Noun("layer", "layers", "layers", ("layer",)),
}
"""Words for every kind of unit."""

UNITS = Noun("unit", "units", "units", ("layer", "unit"))
"""Where kinds are mixed, or unknown to this report."""

STATISTICS = {
    "resonance": (
        "rate difference",
        "excess of the choices per token in the target",
    ),
    "risk_difference": ("risk difference", "difference of the shares of tokens, either way"),
    "mean_difference": ("mean difference", "mean of the target less that of the controls"),
    "absolute_difference": ("absolute difference", "size of the difference of the means"),
    "welch_t": ("t of Welch", "difference of the means over its standard error, either way"),
    "published_welch_t": (
        "t of Welch of absolute values",
        "same t after the signs were dropped, larger in the target",
    ),
    "d_prime": ("d prime", "difference of the means over the deviation of trials, either way"),
    "average_precision": ("average precision", "precision as a detector of the target, either way"),
    "glm_t": ("t of a linear model", "same difference with the confounds in the model, either way"),
    "moderated_t": (
        "moderated t",
        "same difference over a standard error that borrows from other units",
    ),
}
"""Name and meaning of each statistic of a map."""

QUANTITIES = {
    "rate": "share of tokens routed there",
    "logits": "logits of the router",
    "activation": "activation",
    "preactivation": "input of the activation function",
    "unconditional": "activation, 0 where the expert is not chosen",
    "conditional": "activation over the tokens that are routed to the expert",
    "norm": "norm of the output",
    "value_norm": "norm of the values",
    "entropy": "entropy of attention",
    "entropy_rest": "entropy of attention, first token left out",
    "sink": "attention to the first token",
    "previous": "attention to the previous token",
    "duplicate": "attention to the same token before",
    "induction": "attention to what followed the same token before",
    "retrieval": "attention to the token that is said next",
    "before": "residual before the block",
    "mid": "residual between attention and MLP",
    "after": "residual after the block",
}
"""Meaning of each quantity of a map."""

CAUSAL = {
    "patch_denoise": (
        "patching, clean into corrupted",
        "what a unit brings back when its activity of the clean run is put into the corrupted run",
    ),
    "relp": (
        "relevance patching (RelP)",
        "estimate of patching: the change of a unit between both runs times its relevance, which "
        "the rules of relevance propagation carry back from the answer",
    ),
    "attribution_patching": (
        "attribution patching",
        "estimate of patching: the change of a unit between both runs times the gradient of the "
        "answer",
    ),
    "patch_noise": (
        "patching, corrupted into clean",
        "what is lost when the activity of a unit in the corrupted run is put into the clean run",
    ),
    "direct": (
        "direct logit attribution",
        "share of the logit difference that a unit writes itself, past all later layers",
    ),
}
"""Name and meaning of each causal method, the one that is trusted most first."""

COUNTED = ("resonance", "risk_difference")
"""Statistics of counted choices, written as differences of rates."""


@dataclass(frozen=True)
class MapName:
    """A map by its name in the configuration.

    Attributes
    ----------
    name : str
        ``<kind>.<statistic>`` or ``<kind>.<quantity>.<statistic>``.
    """

    name: str

    @property
    def kind(self) -> str:
        """Kind of the units."""
        return self.name.partition(".")[0]

    @property
    def method(self) -> str:
        """The name without the kind."""
        return self.name.partition(".")[2]

    @property
    def statistic(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    @property
    def quantity(self) -> str:
        """What the statistic compares."""
        parts = self.name.split(".")
        return parts[1] if len(parts) == 3 else FIRST_QUANTITY.get(self.kind, "")

    @property
    def noun(self) -> Noun:
        """Words for the units."""
        return noun_of(self.kind)

    @property
    def counted(self) -> bool:
        """Whether the score is a difference of rates."""
        return self.statistic in COUNTED

    @property
    def statistic_name(self) -> str:
        """Short name of the statistic."""
        known = STATISTICS | CAUSAL
        return known.get(self.statistic, (words.readable(self.statistic), ""))[0]

    @property
    def statistic_meaning(self) -> str:
        """Meaning of the statistic in half a sentence."""
        return STATISTICS.get(self.statistic, ("", ""))[1]

    @property
    def quantity_name(self) -> str:
        """Meaning of the quantity."""
        if self.kind == "layer":
            return f"norm of the {QUANTITIES.get(self.quantity, self.quantity)}"
        return QUANTITIES.get(self.quantity, words.readable(self.quantity))

    @property
    def causal(self) -> bool:
        """Whether it is a causal map."""
        return self.statistic in CAUSAL

    @property
    def label(self) -> str:
        """The title, which for a causal map has its method: it has no other statistic."""
        return f"{self.title} by {self.statistic_name}" if self.causal else self.title

    @property
    def described(self) -> str:
        """The title with the statistic or method."""
        return self.label if self.causal else f"{self.title} ({self.statistic_name})"

    @property
    def title(self) -> str:
        """What is mapped, short: ``attention heads``, or with a quantity that is not the first."""
        if self.causal:
            return self.noun.full
        if self.kind == "expert_neuron":
            how = "routed tokens" if self.quantity == "conditional" else "all tokens"
            return f"{self.noun.full}, {how}"
        if self.quantity == FIRST_QUANTITY.get(self.kind, ""):
            return self.noun.full
        return f"{self.noun.full}, {self.quantity_name}"


def noun_of(kind: str) -> Noun:
    """Words for the units of a kind; plain ``units`` for one that is unknown."""
    return KINDS.get(kind, UNITS)


def common_noun(kinds: Iterable[str]) -> Noun:
    """Words for units of several kinds together.

    Parameters
    ----------
    kinds : iterable of str
        Kinds, possibly repeated.

    Returns
    -------
    Noun
        That of the kind, if there is one; experts if there is none; else units.
    """
    found = list(dict.fromkeys(kinds))
    if not found:
        return KINDS["expert"]
    return noun_of(found[0]) if len(found) == 1 else UNITS
