"""Stimuli from a user's table: read, checked row by row, completed.

Every row is checked against ``schemas/stimulus.schema.json``; what no schema can say (who speaks
when, one name per trial, one class per carrier) is checked here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
from jsonschema.exceptions import ValidationError, best_match

from lmri.checks import check_columns, quoted
from lmri.config import TaskOptions
from lmri.errors import StimuliError
from lmri.stimuli.readers import read_rows

NEEDED = ("condition", "reference")
TRUTHS = {"true": True, "1": True, "false": False, "0": False, "": False}
KINDS = {
    "array": "a list of messages",
    "object": "a mapping with 'role' and 'content'",
    "string": "text",
    "boolean": "true or false",
}


def table_trials(task: str, options: TaskOptions) -> pd.DataFrame:
    """Read a table of trials and complete it.

    Needed columns are ``condition``, ``reference`` (what the subject should say), one column per
    carrier, and ``prompt`` or ``messages``. All other fields of the schema are optional.

    Parameters
    ----------
    task : str
        Name of the task.
    options : TaskOptions
        With ``path``, ``carriers`` and ``template``.

    Returns
    -------
    DataFrame
        The columns of ``docs/artefacts.md`` but ``split`` and ``template``.

    Raises
    ------
    StimuliError
        If the file is missing, unreadable, lacks a column, or a row does not fit the schema: an
        empty cell in a needed column, both or neither of ``prompt`` and ``messages``, an unknown
        role; if a trial is named twice, a carrier has two classes, or a ``content`` is not a part
        of its prompt. One line with the file, the row (from 1) and the field.
    """
    path = Path(options.path or "")
    raw = read_rows(path)
    columns = list(dict.fromkeys(name for row in raw for name in row))
    asked = () if "messages" in columns else ("prompt",)
    check_columns(columns, [*NEEDED, *asked, *options.carriers], str(path), StimuliError)
    rows = []
    for number, values in enumerate(raw, start=1):
        row = _row(values, columns, f"{task}:{number - 1}", f"{path}: row {number}")
        _check_row(row, options.carriers, path, number)
        if "messages" in row and options.template.kind != "chat":
            raise StimuliError(
                f"{path}: row {number}: 'messages' need the chat template of the subject: set "
                f"'tasks.{task}.template.kind' to 'chat'."
            )
        rows.append(_completed(row, task, options.carriers))
    trials = pd.DataFrame(rows)
    _check_names(trials, path)
    for carrier in options.carriers:
        _check_classes(trials, carrier, path)
    _check_content(trials, path)
    return trials


def _row(values: dict[str, Any], columns: Sequence[str], name: str, where: str) -> dict[str, Any]:
    """Bring a row into the form of the schema, whatever file it was in."""
    row: dict[str, Any] = {"trial": name}
    for column in columns:
        value = values.get(column)
        # Missing is null in some formats, NaN in others, nothing in the rest.
        missing = value is None or value != value
        row[column] = "" if missing else value
        if column not in {"messages", "held_out"}:
            row[column] = str(row[column])
    if "held_out" in row:
        text = str(row["held_out"]).lower()
        row["held_out"] = TRUTHS.get(text, row["held_out"])
    if isinstance(row.get("messages"), str):
        row["messages"] = _parsed(row["messages"], where)
    if not row.get("messages"):
        row.pop("messages", None)
    if "messages" in columns and not row.get("prompt", "").strip():
        row.pop("prompt", None)
    return row


def _parsed(text: str, where: str) -> object:
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except ValueError:
        raise StimuliError(
            f"{where}: 'messages' must be JSON, a list of messages with 'role' and 'content'. "
            f"Got {_short(text)}."
        ) from None


@cache
def _validator() -> jsonschema.Draft202012Validator:
    text = files("lmri.schemas").joinpath("stimulus.schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def _check_row(row: dict[str, Any], carriers: Sequence[str], path: Path, number: int) -> None:
    given = [name for name in ("prompt", "messages") if name in row]
    if len(given) != 1:
        raise StimuliError(
            f"{path}: row {number} must have either 'prompt' or 'messages'. "
            f"It has {'both' if given else 'neither'}."
        )
    error = best_match(_validator().iter_errors(row))
    if error is not None:
        raise StimuliError(f"{path}: {_sentence(error, number)}")
    for carrier in carriers:
        if not row[carrier].strip():
            raise StimuliError(f"{path}: {_empty(carrier, number)}")
    for problem in _turns(row.get("messages", ())):
        raise StimuliError(f"{path}: row {number}: {problem}")


def _sentence(error: ValidationError, number: int) -> str:
    where = ".".join(str(part) for part in error.absolute_path)
    match error.validator:
        case "pattern" if "." not in where:
            return _empty(where, number)
        case "pattern":
            rule = "must not be empty"
        case "enum":
            rule = f"must be one of {quoted(error.validator_value)}"
        case "type":
            rule = f"must be {KINDS[error.validator_value]}"
        case "required" | "additionalProperties":
            rule = "must have 'role' and 'content' and nothing else"
        case _:
            rule = f"is not valid ({error.message})"
    return f"row {number}: '{where}' {rule}. Got {_short(error.instance)}."


def _empty(column: str, number: int) -> str:
    return f"the column '{column}' must not be empty. Row {number} is."


def _turns(messages: Sequence[dict[str, str]]) -> list[str]:
    roles = [message["role"] for message in messages]
    if "system" in roles[1:]:
        at = roles.index("system", 1)
        return [f"'messages.{at}.role' must not be 'system': only the first message may be."]
    if roles and "user" not in roles:
        return [f"'messages' must have a message of the 'user'. Got {quoted(roles)}."]
    return []


def _completed(row: dict[str, Any], task: str, carriers: Sequence[str]) -> dict[str, Any]:
    messages = row.get("messages")
    if messages:
        prompt = [turn["content"] for turn in messages if turn["role"] == "user"][-1]
    else:
        prompt = row["prompt"]
    own = {
        "trial": row["trial"],
        "task": task,
        "condition": row["condition"],
        "family": row.get("family", task),
        "held_out": row.get("held_out", False),
        "prompt": prompt,
        "content": row.get("content", prompt),
        "messages": json.dumps(messages, ensure_ascii=False) if messages else "",
        "reference": row["reference"],
        "fact": row.get("fact", row["reference"]),
        "refusal": row.get("refusal", ""),
        "entity": row.get("entity", ""),
        "pair": row.get("pair", ""),
        "license": row.get("license", ""),
    }
    for carrier in carriers:
        own[f"carrier_{carrier}"] = row[carrier]
        own[f"class_{carrier}"] = row.get(f"class_{carrier}", "null")
    return own


def _check_names(trials: pd.DataFrame, path: Path) -> None:
    twice = trials["trial"].duplicated()
    if twice.any():
        name = trials["trial"][twice].iloc[0]
        numbers = [i + 1 for i in trials.index[trials["trial"] == name][:2]]
        raise StimuliError(
            f"{path}: every 'trial' must be named once. Got {name!r} twice, in rows "
            f"{numbers[0]} and {numbers[1]}."
        )


def _check_classes(trials: pd.DataFrame, carrier: str, path: Path) -> None:
    kinds = trials.groupby(f"carrier_{carrier}")[f"class_{carrier}"].nunique()
    if (kinds > 1).any():
        raise StimuliError(
            f"{path}: the 'class_{carrier}' of {kinds.idxmax()!r} must be the same in all its "
            f"trials. Got {kinds.max()} classes."
        )


def _check_content(trials: pd.DataFrame, path: Path) -> None:
    for row in trials.itertuples():
        if not row.content.strip() or row.content not in row.prompt:
            whole = "last user message" if row.messages else "prompt"
            raise StimuliError(
                f"{path}: the 'content' of trial {row.trial!r} must be a part of its {whole}. "
                f"Got {row.content!r}."
            )


def _short(value: object) -> str:
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
