"""Words of a study that are to stay at home: texts are replaced by their hashes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pandas as pd

LEVELS = ("none", "responses", "all")
"""What is replaced: nothing; what models said or were to say; prompts and what they are of, too."""

RESPONSES = (
    *("response", "intact", "finding", "sham", "control", "base"),
    *("fact", "reference", "refusal"),
)
"""Columns of text that hold what a model said, or was to say: it may have said just that."""

PROMPTS = (
    *("trial", "prompt", "content", "system", "user", "messages"),
    *("entity", "entities", "pair", "family", "text", "token", "tokens"),
)
"""Columns of text that hold what it was asked, or what tells that."""

CONFIGURED = ("system", "text", "prefill", "arguments")
"""Keys of the template of a task that hold words."""

SPOKEN = ("think", "response")
"""Spans of tokens that the model wrote."""

ANY_TOKEN = "[\N{HORIZONTAL ELLIPSIS}]"
"""Stands for a token: its hash would be found by hashing the words of the vocabulary."""

HASHED = 12
"""Hexadecimal digits of the hash that stands for a text."""


def redact_table(table: pd.DataFrame, level: str) -> pd.DataFrame:
    """Replace the texts of a table.

    A text has the same hash wherever it stands, so that what was equal still is, and a response
    that an intervention changed still differs. Of tokens, which have a span, nothing is left.

    Parameters
    ----------
    table : DataFrame
        Any table of a study; columns of numbers are left alone, whatever their names.
    level : str
        One of :data:`LEVELS`.

    Returns
    -------
    DataFrame
        The same rows; the table itself when there is nothing to replace.
    """
    names = {"none": (), "responses": RESPONSES, "all": (*RESPONSES, *PROMPTS)}[level]
    found = [name for name in names if name in table and not _is_numeric(table[name])]
    replaced = {name: table[name].map(hashed) for name in found}
    if level != "none" and {"token", "span"} <= set(table):
        kept = (level == "responses") & ~table["span"].isin(SPOKEN)
        replaced["token"] = table["token"].where(kept, ANY_TOKEN)
    if not replaced:
        return table
    attributes = table.attrs
    table = table.assign(**replaced)
    table.attrs = attributes
    return table


def redact_settings(settings: dict[str, Any], level: str) -> dict[str, Any]:
    """Replace the words in the configuration of a study.

    Parameters
    ----------
    settings : dict
        As :meth:`lmri.config.StudyConfig.to_dict` gives it.
    level : str
        One of :data:`LEVELS`.

    Returns
    -------
    dict
        A copy.
    """
    settings = json.loads(json.dumps(settings))
    if level == "all":
        for task in settings.get("tasks", {}).values():
            template = task.get("template") or {}
            for key in CONFIGURED:
                if isinstance(template.get(key), str) and template[key]:
                    # A text template must still say where the prompt goes.
                    where = "{prompt}" if "{prompt}" in template[key] else ""
                    template[key] = f"{hashed(template[key])}{where}"
    return settings


def hashed(text: object) -> object:
    """Stand-in for a text; what is no text, or empty, stays."""
    if not isinstance(text, str):
        return text if text is None or isinstance(text, float) else hashed(str(text))
    if not text:
        return text
    return f"[{hashlib.sha256(text.encode()).hexdigest()[:HASHED]}]"


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column)
