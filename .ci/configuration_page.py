"""Write docs/configuration.md from the schema: python .ci/configuration_page.py [FILE]."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import yaml

from lmri.config import StudyConfig

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "src/lmri/schemas/config.schema.json"
PAGE = ROOT / "docs/configuration.md"
HEAD = """# Configuration: every key of a study

A study is one YAML file. `config/config.yaml` is the default study with a comment on every key;
`lmri check FILE` says in one line what is wrong with yours. This page is made from
`src/lmri/schemas/config.schema.json` by `make docs`; keys that are not in it are refused.

A key that is left out has the value of `config/config.yaml`, but for those that the default study
sets to something else: {others}.

`<name>` stands for a name of your own, `[]` for the entries of a list.
"""
NEEDED = ("study", "subjects", "tasks", "contrasts")


def page(schema: dict) -> str:
    """Write the page.

    Parameters
    ----------
    schema : dict
        The JSON schema of a study.

    Returns
    -------
    str
        Markdown, a section for each key of the first level.
    """
    parts = [HEAD.format(others=", ".join(_other_defaults()))]
    for name, entry in schema["properties"].items():
        own = _resolved(entry, schema)
        required = "Required. " if name in schema.get("required", []) else ""
        parts.append(f"\n## {name}\n\n{required}{_sentence(own)}\n")
        rows = list(_rows(own, name, schema))
        if rows:
            parts.append("\n| key | values | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def _other_defaults() -> Iterator[str]:
    """Keys of the default study whose value is not what they have when they are left out."""
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    study = StudyConfig.from_dict(values)
    left_out = StudyConfig.from_dict({key: values[key] for key in NEEDED})
    for section in fields(study):
        own, default = getattr(study, section.name), getattr(left_out, section.name)
        for key in fields(own) if is_dataclass(own) else ():
            value = getattr(default, key.name)
            if getattr(own, key.name) != value:
                told = list(value) if isinstance(value, tuple) else value
                yield f"`{section.name}.{key.name}` is `{json.dumps(told)}`".replace('"', "")


def _rows(entry: dict, path: str, schema: dict) -> Iterator[str]:
    for key, child, required in _children(entry, schema):
        place = f"{path}.{key}" if key != "[]" else f"{path}[]"
        if key != "[]" or child.get("properties"):
            mark = " (required)" if required else ""
            yield f"| `{place}`{mark} | {_values(child, schema)} | {_sentence(child)} |"
        yield from _rows(child, place, schema)


def _children(entry: dict, schema: dict) -> Iterator[tuple[str, dict, bool]]:
    required = entry.get("required", [])
    for key, child in entry.get("properties", {}).items():
        yield key, _resolved(child, schema), key in required
    named = entry.get("additionalProperties") or next(
        iter(entry.get("patternProperties", {}).values()), None
    )
    if isinstance(named, dict):
        yield "<name>", _resolved(named, schema), False
    if isinstance(entry.get("items"), dict):
        yield "[]", _resolved(entry["items"], schema), False
    for choice in (*entry.get("oneOf", ()), *entry.get("anyOf", ())):
        own = _resolved(choice, schema)
        if own.get("properties") and not entry.get("properties"):
            yield from _children(own, schema)


def _resolved(entry: dict, schema: dict) -> dict:
    reference = entry.get("$ref")
    if reference is None:
        return entry
    found = schema
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return {**found, **{key: value for key, value in entry.items() if key != "$ref"}}


def _values(entry: dict, schema: dict) -> str:
    if "enum" in entry:
        return ", ".join(f"`{json.dumps(value).strip(chr(34))}`" for value in entry["enum"])
    if "const" in entry:
        return f"`{entry['const']}`"
    choices = [*entry.get("oneOf", ()), *entry.get("anyOf", ())]
    if choices:
        return " or ".join(dict.fromkeys(_values(_resolved(c, schema), schema) for c in choices))
    kind = entry.get("type", "any")
    names = " or ".join(kind) if isinstance(kind, list) else kind
    if "array" in names and isinstance(entry.get("items"), dict):
        inner = _values(_resolved(entry["items"], schema), schema)
        names = "list" if inner == "object" else f"list of {inner}"
    return ", ".join([names, *_bounds(entry)])


def _bounds(entry: dict) -> Iterator[str]:
    for key, text in (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    ):
        if key in entry:
            yield f"{text} {entry[key]}"
    if entry.get("minItems"):
        yield f"at least {entry['minItems']}"


def _sentence(entry: dict) -> str:
    text = " ".join(entry.get("description", "").split()).replace("|", "\\|")
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    return text if not text or text.endswith(".") else f"{text}."


def main() -> int:
    """Write the page where the command line says, or to docs/."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    out.write_text(page(schema), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
