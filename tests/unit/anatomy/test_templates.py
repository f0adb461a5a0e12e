"""Templates: what they are given, what they may not do, and how they are remembered."""

import hashlib
import json

import pytest

from lmri.anatomy import check_template, read_template, template_attributes
from lmri.anatomy.templates import render_text
from lmri.config import TemplateOptions
from lmri.errors import StimuliError

CHAT = TemplateOptions(kind="chat")


def test_a_template_is_read_back_from_its_column():
    options = TemplateOptions(kind="chat", arguments={"enable_thinking": False}, date="2026-04-07")
    assert read_template(json.dumps(options.to_dict())) == options
    assert read_template("") == TemplateOptions()


def test_the_day_is_that_of_the_task(chat_tokenizer):
    tokenizer = chat_tokenizer("dated")
    for date, said in (("2026-01-01", "01 Jan 2026"), ("2026-04-07", "07 Apr 2026")):
        options = TemplateOptions(kind="chat", date=date)
        rendered = render_text(tokenizer, {"prompt": "hello"}, options, "")
        assert rendered.text == f"<|im_start|>{said}<|im_end|>hello"
        assert rendered.text[rendered.start : rendered.end] == "hello"


@pytest.mark.parametrize("source", ["\n{{ strftime_now('%Y') }}", " {{ strftime_now('%Y') }}"])
def test_fixing_the_day_changes_nothing_else(chat_tokenizer, source):
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = source + "{{ messages[0].content }}"
    rendered = render_text(tokenizer, {"prompt": "hello"}, CHAT, "")
    assert rendered.text == f"{source[0]}2026hello"


def test_arguments_reach_the_template(chat_tokenizer):
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = "{{ date_string }} {{ messages[0].content }} {{ tools_on }}"
    options = TemplateOptions(kind="chat", arguments={"date_string": "one", "tools_on": True})
    assert render_text(tokenizer, {"prompt": "hello"}, options, "").text == "one hello True"


def test_a_message_written_twice_is_found_at_its_last_place(chat_tokenizer):
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = "{{ messages[0].content }} . {{ messages[0].content }} ?"
    rendered = render_text(tokenizer, {"prompt": "hello hello"}, CHAT, "")
    assert (rendered.start, rendered.end) == (14, 25)


def test_a_message_that_a_template_treats_apart_is_found_if_it_is_there_once(chat_tokenizer):
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = (
        "{% if messages[0].content == 'hello' %}{{ 'user ' }}{% endif %}{{ messages[0].content }}"
    )
    rendered = render_text(tokenizer, {"prompt": "hello"}, CHAT, "")
    assert rendered.text[rendered.start : rendered.end] == "hello" and rendered.start == 5


@pytest.mark.parametrize(
    ("family", "turns", "message"),
    [
        (
            "shouting",
            [("u", "hello")],
            r"^trial 't': the chat template must keep the text of the last user message.* "
            r"It changes 'hello': write the message as the template does",
        ),
        (
            "strict",
            [("s", "be kind"), ("u", "hello")],
            r"^trial 't': the chat template of the subject cannot render the conversation "
            r"\(System role not supported\)\. Check the roles of 'messages'",
        ),
        (
            "shouting",
            [("u", "hello"), ("a", "sure")],
            r"^trial 't': the chat template of the subject cannot render the conversation \(",
        ),
    ],
)
def test_a_conversation_that_a_template_refuses(
    chat_tokenizer, conversation, family, turns, message
):
    trial = {"prompt": "hello", "messages": conversation(*turns)}
    with pytest.raises(StimuliError, match=message) as info:
        render_text(chat_tokenizer(family), trial, CHAT, "trial 't'")
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("hello", r"^trial 't': the chat template .* cannot render the conversation \(.*deletes"),
        # The words are there, but not where they are to be continued.
        ("one</think> two", r"^trial 't': .* keep the prefill.* 'one</think> two': leave out"),
    ],
)
def test_a_prefill_of_which_a_template_takes_away_is_refused(
    chat_tokenizer, conversation, asked, message
):
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% else %}"
        "{{ m.content.split('</think>')[-1] }}{% endif %}{% endfor %}"
    )
    turns = conversation(("u", asked), ("a", "one</think> two"))
    with pytest.raises(StimuliError, match=message) as info:
        render_text(tokenizer, {"prompt": asked, "messages": turns}, CHAT, "trial 't'")
    assert "\n" not in str(info.value)
    kept = {"prompt": asked, "messages": conversation(("u", asked), ("a", "I think "))}
    rendered = render_text(tokenizer, kept, CHAT, "trial 't'")
    assert rendered.text[-rendered.prefill :].strip() == "I think"
    assert rendered.text[rendered.start : rendered.end] == asked


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{% set _ = messages.append(1) %}{{ messages[0].content }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_templates_run_in_a_sandbox(chat_tokenizer, source):
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = source
    with pytest.raises(StimuliError, match="cannot render the conversation"):
        check_template(tokenizer, CHAT, "subject 'mine', task 'talk'")


def test_a_missing_chat_template_is_no_matter_without_chat(chat_tokenizer):
    check_template(chat_tokenizer(), TemplateOptions(), "")
    check_template(chat_tokenizer(), TemplateOptions(kind="text", text="{prompt} ?"), "")


def test_attributes_name_the_template_by_its_hash(chat_tokenizer):
    tokenizer = chat_tokenizer("chatml")
    options = TemplateOptions(kind="chat", arguments={"enable_thinking": False})
    assert template_attributes(tokenizer, options) == {
        "kind": "chat",
        "template_sha256": hashlib.sha256(tokenizer.chat_template.encode()).hexdigest(),
        "arguments": {"enable_thinking": False},
        "date": "2026-01-01",
    }
    text = template_attributes(tokenizer, TemplateOptions(kind="text", text="{prompt} ?"))
    assert text["template_sha256"] == hashlib.sha256(b"{prompt} ?").hexdigest()
    assert template_attributes(tokenizer, TemplateOptions()) == {
        "kind": "none",
        "template_sha256": None,
        "special_tokens": True,
    }
