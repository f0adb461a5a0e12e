"""Templates: the text a trial becomes, and where its last user message is in that text.

A chat template is a Jinja program from the folder of the model. It is rendered by transformers in
its sandboxed, immutable environment, on plain data; it can neither open files nor import.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from lmri.config import TemplateOptions
from lmri.errors import StimuliError

SLOT = "{prompt}"
"""Where a text template takes the prompt."""

SENTINEL = "lmri-message"


@dataclass(frozen=True)
class RenderedText:
    """A prompt as text.

    Attributes
    ----------
    text : str
        All of it.
    start, end : int
        Characters of the last user message; of the whole prompt when there is no template.
    prefill : int
        Characters at the end that are a prefill.
    """

    text: str
    start: int
    end: int
    prefill: int = 0


def read_template(text: str) -> TemplateOptions:
    """Read the ``template`` of a row of stimuli.

    Parameters
    ----------
    text : str
        JSON, or nothing for a plain prompt.

    Returns
    -------
    TemplateOptions
        The template.
    """
    return TemplateOptions.from_dict(json.loads(text)) if text else TemplateOptions()


def render_text(
    tokenizer: PreTrainedTokenizerBase,
    trial: Mapping[str, Any],
    template: TemplateOptions,
    owner: str,
) -> RenderedText:
    """Write a trial as the subject will read it.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.
    trial : mapping
        With ``prompt``, and ``messages`` (JSON) when there is more than one turn.
    template : TemplateOptions
        The template.
    owner : str
        Begins an error.

    Returns
    -------
    RenderedText
        The text.

    Raises
    ------
    StimuliError
        If the tokenizer has no chat template, the template refuses the conversation, or it
        changes the text of the prefill or of the last user message.
    """
    prompt = trial["prompt"]
    if template.kind == "chat":
        return _render_chat(tokenizer, _messages(trial), template, owner)
    if template.kind == "text":
        before, _, after = template.text.partition(SLOT)
        return RenderedText(before + prompt + after, len(before), len(before) + len(prompt))
    return RenderedText(prompt, 0, len(prompt))


def check_template(
    tokenizer: PreTrainedTokenizerBase, template: TemplateOptions, owner: str
) -> None:
    """Raise unless a tokenizer can render a template; needs no weights.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.
    template : TemplateOptions
        The template of a task.
    owner : str
        Subject and task; begins the error.

    Raises
    ------
    StimuliError
        If the tokenizer has no chat template where one is asked for, or the template cannot
        render one user message with the arguments.
    """
    render_text(tokenizer, {"prompt": "a"}, template, owner)


def template_attributes(
    tokenizer: PreTrainedTokenizerBase, template: TemplateOptions
) -> dict[str, Any]:
    """Describe a template for the attributes of a recording.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.
    template : TemplateOptions
        The template of the task.

    Returns
    -------
    dict
        ``kind``; ``template_sha256`` of the chat template, or of the text (None for a plain
        prompt); ``arguments`` and ``date`` of a chat template; ``special_tokens`` elsewhere.
    """
    text = {"chat": tokenizer.get_chat_template, "text": lambda: template.text}.get(template.kind)
    digest = hashlib.sha256(text().encode()).hexdigest() if text else None
    described = {"kind": template.kind, "template_sha256": digest}
    if template.kind == "chat":
        return {**described, "arguments": dict(template.arguments), "date": template.date}
    return {**described, "special_tokens": template.special_tokens}


def _messages(trial: Mapping[str, Any]) -> list[dict[str, str]]:
    if trial.get("messages"):
        return json.loads(trial["messages"])
    return [{"role": "user", "content": trial["prompt"]}]


def _render_chat(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, str]],
    template: TemplateOptions,
    owner: str,
) -> RenderedText:
    text = _apply(tokenizer, messages, template, owner)
    last = max(i for i, message in enumerate(messages) if message["role"] == "user")
    said = messages[last]["content"]
    prefill = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
    if not text.rstrip().endswith(prefill.rstrip()):
        raise StimuliError(
            f"{owner}: the chat template must keep the prefill, the last message of the "
            f"'assistant'. It changes {_short(prefill)}: leave out what it takes away."
        )
    # The words of the message may stand elsewhere too, in the system text or in the template, so
    # its place is where a word that is nowhere else comes out.
    sentinel = SENTINEL
    while sentinel in text:
        sentinel += "-"
    marked = [*messages[:last], {"role": "user", "content": sentinel}, *messages[last + 1 :]]
    around = _apply(tokenizer, marked, template, owner)
    place = _locate(text, around, sentinel, said)
    if place is None:
        raise StimuliError(
            f"{owner}: the chat template must keep the text of the last user message, so that its "
            f"tokens can be found. It changes {_short(said)}: write the message as the template "
            "does, or use another 'template'."
        )
    written = len(text) - len(text.rstrip()) + len(prefill.rstrip()) if prefill else 0
    return RenderedText(text, *place, written)


def _locate(text: str, around: str, sentinel: str, said: str) -> tuple[int, int] | None:
    at = around.rfind(sentinel)
    if at >= 0:
        for piece in (said, said.strip(), said.rstrip(), said.lstrip()):
            if around.replace(sentinel, piece) == text:
                start = len(around[:at].replace(sentinel, piece))
                return start, start + len(piece)
    # A template may treat some messages in another way than the sentinel.
    if text.count(said.strip()) == 1:
        start = text.find(said.strip())
        return start, start + len(said.strip())
    return None


def _apply(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, str]],
    template: TemplateOptions,
    owner: str,
) -> str:
    prefilled = messages[-1]["role"] == "assistant"
    try:
        source = tokenizer.get_chat_template()
    except ValueError:
        raise StimuliError(
            f"{owner}: a task with template.kind: chat needs a tokenizer with a chat template. "
            "That of the subject has none: save one in the model's folder "
            "(chat_template.jinja), or set 'template.kind' of the task to 'none' or 'text'."
        ) from None
    try:
        return tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            chat_template=_dated(source, template.date),
            add_generation_prompt=not prefilled,
            continue_final_message=prefilled,
            **template.arguments,
        )
    except Exception as error:  # noqa: BLE001 - a template may raise whatever it likes
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StimuliError(
            f"{owner}: the chat template of the subject cannot render the conversation "
            f"({first}). Check the roles of 'messages' and the 'template.arguments' of the task."
        ) from None


def _dated(source: str, date: str) -> str:
    """Let a template that writes today's date write the date of the task instead.

    Otherwise the same study would give other prompts tomorrow. A macro of the same name takes
    the place of the function that transformers offers.
    """
    if "strftime_now" not in source:
        return source
    day = datetime.date.fromisoformat(date)
    parts = "".join(f" | replace('%{d}', '{day.strftime('%' + d)}')" for d in "aAbBdjmyYHIMSp")
    # The plus keeps a line break with which the template may begin.
    return f"{{% macro strftime_now(format) %}}{{{{ format{parts} }}}}{{% endmacro +%}}{source}"


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
