"""Causal maps in words: units, roles of tokens, metrics.

The report knows files only, so the words stand here and not beside the code that makes the maps;
a test compares them with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from lmri.report import words
from lmri.report.kinds import CAUSAL, KINDS, UNITS, Noun

PATCHED = "patch_denoise"
"""The method that all approximations are compared with."""

APPROXIMATE = ("relp", "attribution_patching", "direct")
"""Methods that estimate it."""

SHORT = {
    "patch_denoise": "patching",
    "patch_noise": "patching back",
    "attribution_patching": "attribution",
    "relp": "RelP",
    "direct": "direct",
}
"""Names of methods where there is little room."""

BY_ROLE = "_by_role"
"""Ends the names of maps of layers by roles of tokens."""

RENAMED = {"residual": "residual_site"}
"""Kinds in the configuration whose maps are of another kind: whole states, not dimensions."""

NOUNS = KINDS | {
    "residual_site": Noun("state", "states", "states of the residual stream", ("layer", "place")),
    "attention": Noun("output", "outputs", "outputs of attention", ("layer", "unit")),
    "mlp": Noun("output", "outputs", "outputs of the MLP", ("layer", "unit")),
}
"""Words for the units of causal maps."""

STREAMS = {"residual": "residual stream", "attention": "attention", "mlp": "MLP"}
"""What is mapped by roles of tokens."""

WHOLE = ("residual_site", "attention", "mlp")
"""Kinds whose units are all that is written at one place."""

ROLES = {
    "all": "all tokens",
    "before": "before",
    "content": "content",
    "entity": "words that differ",
    "entity_last": "last of these",
    "relation": "shared words",
    "between": "after them",
    "prompt_last": "last of prompt",
}
"""Roles of tokens in a pair of prompts, short enough for the columns of a drawing."""

ROLE_MEANINGS = {
    "before": "tokens before the first that differs between the two trials",
    "entity": "those that differ",
    "entity_last": "the last of them",
    "relation": "the content that both trials share",
    "between": "those after the last that differs",
    "prompt_last": "the last of the prompt, after which the answer comes",
}
"""Which tokens have a role, where its name leaves it open."""

METRICS = {
    "recovery": (
        "share of the gap",
        "A score is the share of the gap between both runs that comes back: 0 is nothing, 1 all "
        "of it. Above 1 a unit does more than the whole difference between the trials.",
    ),
    "logit_difference": (
        "logits",
        "A score is the change of the logit difference between both answers, in logits.",
    ),
}
"""Unit of the scores of each metric, and what a number means."""


def is_by_role(kind: str) -> bool:
    """Whether a map is of layers by roles of tokens."""
    return kind.endswith(BY_ROLE)


def noun_of(kind: str) -> Noun:
    """Words for what a causal map is of.

    Parameters
    ----------
    kind : str
        First part of the name of the map.

    Returns
    -------
    Noun
        With the dimensions of the map; plain units for a kind that is unknown.
    """
    if not is_by_role(kind):
        return NOUNS.get(kind, UNITS)
    own = kind.removesuffix(BY_ROLE)
    full = f"{STREAMS.get(own, words.readable(own))} by role of the token"
    return Noun("place", "places", full, ("layer", "role"))


def method_name(method: str) -> str:
    """Name of a method for people."""
    return CAUSAL.get(method, (words.readable(method), ""))[0]


def method_meaning(method: str) -> str:
    """What a method measures, in half a sentence."""
    return CAUSAL.get(method, ("", ""))[1]


def role_name(role: str) -> str:
    """Name of a role of tokens; those after the instruction are counted from 0."""
    number = role.removeprefix("post_instruction_")
    if number != role and number.isdecimal():
        return f"template token {number}"
    return ROLES.get(role, words.readable(role))


def describe_roles(columns: Sequence[str]) -> str:
    """Say which tokens the columns of a map by role are.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns, from :func:`role_name`.

    Returns
    -------
    str
        A sentence; empty where all names speak for themselves.
    """
    known = {ROLES[role]: meaning for role, meaning in ROLE_MEANINGS.items()}
    told = [f"\u201c{name}\u201d {known[name]}" for name in columns if name in known]
    return f"Columns: {'; '.join(told)}. " if told else ""


def metric_unit(metric: str) -> str:
    """Unit of the scores of a metric."""
    return METRICS.get(metric, (words.readable(metric), ""))[0]


def metric_meaning(metric: str) -> str:
    """What a score in a metric says."""
    return METRICS.get(metric, ("", ""))[1]
