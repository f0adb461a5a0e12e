"""Preview: every token once, with its phase, and nothing a terminal would obey."""

import json
import re

import pandas as pd
import pytest

from lmri import cli
from lmri.anatomy import render_trials
from lmri.config import TemplateOptions
from lmri.stimuli import legend, preview_task
from lmri.stimuli.preview import escaped, token_phases


def table(rows, kind="chat"):
    template = json.dumps(TemplateOptions(kind=kind).to_dict())
    columns = ["trial", "condition", "prompt"]
    return pd.DataFrame(rows, columns=columns).assign(template=template)


ROWS = [
    ("t0", "asked", "what is up ?"),
    ("t1", "told", "I think so ."),
    ("t2", "asked", "what ?"),
]


def test_a_known_preview_without_colours(chat_tokenizer):
    tokenizer = chat_tokenizer("deepseek")
    assert list(preview_task("talk", table(ROWS), tokenizer, colour=False)) == [
        "talk: 3 trials, template chat",
        "",
        "asked: 2 trials of 7 to 9 (median 8) tokens; t0:",
        "system[<s>|<|User|>] content[what| is| up] content_last[ ?] "
        "post_instruction[<|Assistant|>|<think>] prompt_last[\\n]",
        "9 tokens: 5 system, 4 content",
        "",
        "told: 1 trials of 9 tokens; t1:",
        "system[<s>|<|User|>] content[I| think| so] content_last[ .] "
        "post_instruction[<|Assistant|>|<think>] prompt_last[\\n]",
        "9 tokens: 5 system, 4 content",
    ]
    assert "\x1b" not in legend(colour=False)


def test_colours_change_no_letter(chat_tokenizer):
    tokenizer = chat_tokenizer("chatml")
    lines = list(preview_task("talk", table(ROWS), tokenizer, colour=True))
    shown = re.sub(r"\x1b\[[\d;]*m", "", lines[3])
    assert (
        shown == "<|im_start|>|user|\\n|what| is| up| ?|<|im_end|>|\\n|<|im_start|>|assistant|\\n"
    )
    assert "\x1b[32mwhat| is| up\x1b[0m|\x1b[1;32m ?\x1b[0m|\x1b[36m<|im_end|>" in lines[3]
    assert "\x1b[1;33mprompt_last\x1b[0m" in legend(colour=True)


def test_phases_of_a_plain_prompt_that_is_all_content(chat_tokenizer):
    tokenizer = chat_tokenizer()
    prompt = render_trials(tokenizer, table([("t", "a", "one two three")], "none"))[0]
    assert token_phases(prompt, 0) == ["content", "content", "prompt_last"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("\x9b31m\x07", r"\x9b31m\x07"),
        ("é 🙂", "é 🙂"),
        ("\u2028", r"\u2028"),
    ],
)
def test_characters_that_a_terminal_obeys_are_escaped(text, shown):
    assert escaped(text) == shown


@pytest.mark.parametrize("colour", [True, False])
def test_nothing_of_a_table_reaches_the_terminal_raw(chat_tokenizer, colour):
    tokenizer = chat_tokenizer("chatml")
    tokenizer.add_tokens(["\x1b"])
    rows = [("t\x1b[2J", "a\x07", "hello \x1b ?")]
    lines = "".join(preview_task("talk", table(rows), tokenizer, colour=colour))
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", re.sub(r"\x1b\[[\d;]*m", "", lines))


def run(capsys, *arguments):
    code = cli.main(["stimuli", "--preview", *map(str, arguments)])
    return code, capsys.readouterr()


def test_the_command_shows_every_condition_of_a_task(repository, capsys):
    config = repository / "config/config.yaml"
    code, captured = run(capsys, "--config", config, "--task", "events")
    assert code == 0
    assert captured.out.startswith("phase[token|token]")  # no terminal, no colours
    for condition in ("sensitive", "near_miss_place", "near_miss_year", "benign"):
        assert f"\n{condition}: " in captured.out
    assert "system[<bos>| <user>] content[ what| happened" in captured.out
    assert "relations:" not in captured.out


@pytest.mark.parametrize("no_color", ["1", ""])
def test_colours_are_for_terminals_that_want_them(repository, capsys, monkeypatch, no_color):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", no_color)
    code, captured = run(
        capsys, "--config", repository / "config/config.yaml", "--task", "arithmetic"
    )
    assert code == 0 and ("\x1b[" in captured.out) == (not no_color)


def test_a_folder_with_a_tokenizer_is_enough(chat_tokenizer, tmp_path, capsys):
    chat_tokenizer("chatml").save_pretrained(tmp_path / "model")
    rows = [
        {"condition": c, "prompt": "hello", "reference": "sure", "entity": f"{i}"}
        for i in range(12)
        for c in "ab"
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "study.yaml").write_text(
        "study: mine\nsubjects: {mine: {source: hub, id: a/b}}\n"
        f"tasks: {{talk: {{source: table, path: {tmp_path / 't.csv'}, carriers: [entity], "
        "template: {kind: chat}}}\n"
        "contrasts: {c: {task: talk, target: [a], controls: [b]}}\n"
    )
    config = ("--config", tmp_path / "study.yaml")
    code, captured = run(capsys, *config, "--model", tmp_path / "model")
    assert code == 0 and "content_last[hello]" in captured.out
    code, captured = run(capsys, *config)
    assert code == 2
    assert captured.err == (
        "lmri: error: The tokenizer of subject 'mine' is on the hub: give a folder that holds it "
        "as --model.\n"
    )
    code, captured = run(capsys, *config, "--model", tmp_path)
    assert code == 2 and "tokenizer" in captured.err and captured.err.count("\n") == 1


def test_an_unknown_task_is_named(repository, capsys):
    code, captured = run(capsys, "--config", repository / "config/config.yaml", "--task", "eventz")
    assert code == 2 and "must be one of 'arithmetic'" in captured.err


def test_the_stage_still_needs_its_arguments(repository, capsys):
    assert cli.main(["stimuli", "--config", str(repository / "config/config.yaml")]) == 2
    error = capsys.readouterr().err
    assert error == "lmri: error: lmri stimuli needs --task and --out, or --preview.\n"
