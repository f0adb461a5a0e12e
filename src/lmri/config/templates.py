"""Contradictions within the template of a task."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from lmri.checks import shortened
from lmri.config.options import TemplateOptions

RESERVED_ARGUMENTS = (
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversation",
    "documents",
    "max_length",
    "messages",
    "padding",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "sanitize_control_tokens",
    "tokenize",
    "tokenizer_kwargs",
    "tools",
    "truncation",
)
"""Arguments of a chat template that follow from the messages and are never given."""


def template_problems(where: str, template: TemplateOptions, source: str) -> Iterator[str]:
    """Find contradictions within the template of a task.

    Parameters
    ----------
    where : str
        The key of the template.
    template : TemplateOptions
        The template.
    source : str
        Source of the task.

    Yields
    ------
    str
        One line: the key, what was got, what is allowed.
    """
    if source == "world" and template.kind != "none":
        yield (
            f"'{where}.kind' must be 'none' for a task with source: world, whose prompts hold "
            f"their template. Got '{template.kind}'."
        )
    if template.kind == "text" and (template.text or "").count("{prompt}") != 1:
        yield (
            f"'{where}.text' must hold {{prompt}} once where 'kind' is 'text'. "
            f"Got {shortened(template.text)}."
        )
    for key, kind in (("text", "text"), ("arguments", "chat")):
        if getattr(template, key) and template.kind != kind:
            yield f"unknown key '{key}' in '{where}'. It is for a template with kind: {kind}."
    for name in sorted(set(template.arguments) & set(RESERVED_ARGUMENTS)):
        yield (
            f"unknown key '{name}' in '{where}.arguments'. It follows from the messages: give "
            "arguments of the chat template itself."
        )
    try:
        datetime.date.fromisoformat(template.date)
    except ValueError:
        yield f"'{where}.date' must be a date like '2026-01-01'. Got '{template.date}'."
