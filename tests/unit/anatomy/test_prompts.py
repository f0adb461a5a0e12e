"""Prompts: known spans for the templates of real families, and for tokenizers with odd offsets."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    PreTrainedTokenizerFast,
)

from lmri.anatomy import SPANS, check_prompts, encode, prompt_room, render_trials, template_tail
from lmri.config import TemplateOptions
from lmri.errors import StimuliError

CHAT = TemplateOptions(kind="chat")


def render(tokenizer, prompt="", template=None, room=None, **columns):
    options = template or TemplateOptions()
    row = {"trial": "t", "prompt": prompt, "template": json.dumps(options.to_dict()), **columns}
    return render_trials(tokenizer, pd.DataFrame([row]), room)[0]


def content_of(prompt):
    return np.flatnonzero(prompt.spans == SPANS.index("content")).tolist()


@pytest.mark.parametrize(
    ("family", "wanted"),
    [
        (
            "chatml",
            [
                "system: <|im_start|> user \n",
                "content: what is up ?",
                "system: <|im_end|> \n <|im_start|> assistant \n",
            ],
        ),
        (
            "llama3",
            [
                "system: <s> <|start_header_id|> user <|end_header_id|> \n\n",
                "content: what is up ?",
                "system: <|eot_id|> <|start_header_id|> assistant <|end_header_id|> \n\n",
            ],
        ),
        (
            "qwen3",
            [
                "system: <|im_start|> user \n",
                "content: what is up ?",
                "system: <|im_end|> \n <|im_start|> assistant \n",
            ],
        ),
        (
            "deepseek",
            [
                "system: <s> <|User|>",
                "content: what is up ?",
                "system: <|Assistant|> <think> \n",
            ],
        ),
        (
            "harmony",
            [
                "system: <|start|> user <|message|>",
                "content: what is up ?",
                "system: <|end|> <|start|> assistant",
            ],
        ),
        (
            "gemma",
            [
                "system: <s> <start_of_turn> user \n",
                "content: what is up ?",
                "system: <end_of_turn> \n <start_of_turn> model \n",
            ],
        ),
    ],
)
def test_spans_of_families(chat_tokenizer, spans_of, family, wanted):
    tokenizer = chat_tokenizer(family)
    prompt = render(tokenizer, "what is up ?", CHAT)
    assert spans_of(tokenizer, prompt) == wanted
    assert prompt.instruction_last == content_of(prompt)[-1]
    after = len(wanted[-1].split(": ", 1)[1].split(" "))
    assert len(prompt.ids) - 1 - prompt.instruction_last == after
    assert template_tail(tokenizer, CHAT, "hello") == after
    assert prompt.thinking == (family == "deepseek")


def test_thinking_switched_off_is_template_and_not_thought(chat_tokenizer, spans_of):
    tokenizer = chat_tokenizer("qwen3")
    off = TemplateOptions(kind="chat", arguments={"enable_thinking": False})
    prompt = render(tokenizer, "hello", off)
    end = "system: <|im_end|> \n <|im_start|> assistant \n <think> \n\n </think> \n\n"
    assert spans_of(tokenizer, prompt)[-1] == end
    assert not prompt.thinking
    assert template_tail(tokenizer, off, "hello") == 8  # of nine


def test_a_prefill_may_think(chat_tokenizer, spans_of, conversation):
    tokenizer = chat_tokenizer("deepseek", extra=("</think>",))
    turns = conversation(("u", "hello"), ("a", "<think> I think so"))
    prompt = render(tokenizer, "hello", CHAT, messages=turns)
    assert spans_of(tokenizer, prompt) == [
        "system: <s> <|User|>",
        "content: hello",
        "system: <|Assistant|> <think>",
        "think: I think so",
    ]
    assert prompt.thinking
    done = conversation(("u", "hello"), ("a", "<think> I think so </think> sure"))
    prompt = render(tokenizer, "hello", CHAT, messages=done)
    assert spans_of(tokenizer, prompt)[-2:] == ["think: I think so", "system: </think> sure"]
    assert not prompt.thinking


def test_a_prefill_is_continued_without_an_end_of_turn(chat_tokenizer, spans_of, conversation):
    tokenizer = chat_tokenizer("chatml")
    turns = conversation(("s", "be kind ."), ("u", "what is up ?"), ("a", "sure ,"))
    prompt = render(tokenizer, "what is up ?", CHAT, messages=turns)
    assert spans_of(tokenizer, prompt) == [
        "system: <|im_start|> system \n be kind . <|im_end|> \n <|im_start|> user \n",
        "content: what is up ?",
        "system: <|im_end|> \n <|im_start|> assistant \n sure ,",
    ]
    assert prompt.n_prefill == 2 and render(tokenizer, "hello", CHAT).n_prefill == 0


@pytest.mark.parametrize("family", ["chatml", "llama3", "gemma", "deepseek", "harmony"])
def test_content_that_stands_elsewhere_is_found_where_it_is_said(
    chat_tokenizer, spans_of, conversation, family
):
    tokenizer = chat_tokenizer(family)
    turns = conversation(
        ("s", "hello hello"), ("u", "hello"), ("a", "hello"), ("u", "hello"), ("a", "hello")
    )
    prompt = render(tokenizer, "hello", CHAT, messages=turns)
    said = [i for i, p in enumerate(tokenizer.convert_ids_to_tokens(prompt.ids)) if p == "hello"]
    assert len(said) == 6
    assert content_of(prompt) == [said[4]]


def test_a_word_of_the_template_may_be_the_content(chat_tokenizer):
    prompt = render(chat_tokenizer("chatml"), "user", CHAT)
    assert content_of(prompt) == [3]  # <|im_start|> user \n user


def test_a_part_of_the_message_may_be_the_content(chat_tokenizer, spans_of):
    tokenizer = chat_tokenizer("chatml")
    prompt = render(tokenizer, "hello , what is up ?", CHAT, content="what is up")
    assert spans_of(tokenizer, prompt) == [
        "system: <|im_start|> user \n hello ,",
        "content: what is up",
        "system: ? <|im_end|> \n <|im_start|> assistant \n",
    ]
    assert prompt.instruction_last == content_of(prompt)[-1] + 1  # the message ends after it


def test_white_space_that_a_template_strips_is_no_error(chat_tokenizer, spans_of):
    tokenizer = chat_tokenizer("llama3")
    prompt = render(tokenizer, " \n hello \n", CHAT)
    assert spans_of(tokenizer, prompt)[1] == "content: hello"


def test_a_template_that_adds_nothing_gives_the_plain_prompt(chat_tokenizer):
    tokenizer = chat_tokenizer("bare")
    text = "hello , what is up ?"
    for columns in ({}, {"content": "what is up"}):
        chat, plain = (render(tokenizer, text, options, **columns) for options in (CHAT, None))
        assert chat.ids == plain.ids and chat.text == plain.text
        assert chat.spans.tolist() == plain.spans.tolist()
    assert template_tail(tokenizer, CHAT, text) == 0
    assert template_tail(tokenizer, TemplateOptions(), text) == 0


def test_a_text_around_the_prompt_is_system(chat_tokenizer, spans_of):
    tokenizer = chat_tokenizer()
    text = TemplateOptions(kind="text", text="user . {prompt}\nI think")
    assert spans_of(tokenizer, render(tokenizer, "hello", text)) == [
        "system: user .",
        "content: hello",
        "system: \n I think",
    ]


@pytest.mark.parametrize("text", ["hello", "<s> hello"])
def test_special_tokens_stand_once(chat_tokenizer, text):
    tokenizer = chat_tokenizer(bos=True)
    hello = tokenizer.convert_tokens_to_ids("hello")
    assert tokenizer(text)["input_ids"][0] == 0 and tokenizer(text)["input_ids"][-1] == 1
    prompt = render(tokenizer, text, content="hello")
    assert prompt.ids == [0, hello]  # no end token: there is more to come
    assert content_of(prompt) == [1]
    bare = render(tokenizer, "hello", TemplateOptions(special_tokens=False))
    assert bare.ids == [hello]


def test_a_chat_template_writes_the_only_first_token(chat_tokenizer):
    tokenizer = chat_tokenizer("llama3", bos=True)
    ids = render(tokenizer, "hello", CHAT).ids
    assert ids.count(0) == 1 and ids[0] == 0 and 1 not in ids
    assert ids == tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}], add_generation_prompt=True, return_dict=False
    )


def test_an_encoder_keeps_its_separator():
    backend = Tokenizer(models.WordLevel({"[CLS]": 0, "[SEP]": 1, "hello": 2, "[UNK]": 3}, "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    )
    prompt = render(tokenizer, "hello hello")
    assert prompt.ids == [0, 2, 2, 1] and content_of(prompt) == [1, 2]
    with pytest.raises(StimuliError, match=r"^trial 't': every word .* no token for 'world'\.$"):
        render(tokenizer, "hello world")


@pytest.fixture(scope="module", params=[False, True], ids=["exact", "trimmed"])
def byte_level(request):
    """Every byte is a token: letters beyond ASCII have several; offsets may be trimmed."""
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(alphabet, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if request.param:
        backend.post_processor = processors.ByteLevel(trim_offsets=True)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("é", [1, 2]),
        ("é?", [1, 2, 3]),
        ("🙂", [5, 6, 7, 8]),
        ("b", [9]),
        ("aé? 🙂b", list(range(10))),
    ],
)
def test_letters_of_several_tokens_are_whole(byte_level, content, tokens):
    # a=0, é=1-2, ?=3, space=4, 🙂=5-8, b=9
    prompt = render(byte_level, "aé? 🙂b", content=content)
    assert len(prompt.ids) == 10
    assert content_of(prompt) == tokens


def test_the_space_before_a_word_may_be_in_its_token():
    pieces = ["<unk>", "▁say", "▁hello", "▁now", "hello", "▁", "!"]
    backend = Tokenizer(models.Unigram([(p, -1.0) for p in pieces], 0, False))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    wanted = ["▁say", "▁hello", "!", "▁now"]
    for content, tokens in (("hello", [1]), ("say", [0]), (" hello! ", [1, 2]), ("now", [3])):
        prompt = render(tokenizer, "say hello! now", content=content)
        assert tokenizer.convert_ids_to_tokens(prompt.ids) == wanted
        assert content_of(prompt) == tokens, content


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    turns=st.lists(
        st.sampled_from(["hello", "what is up ?", "user", "\n", "I think so ."]), min_size=1
    ),
    family=st.sampled_from(["chatml", "llama3", "qwen3", "deepseek", "harmony", "gemma"]),
    prefilled=st.booleans(),
)
def test_every_token_has_one_span_and_the_message_is_the_content(
    chat_tokenizer, conversation, turns, family, prefilled
):
    tokenizer = chat_tokenizer(family)
    said = " ".join([*turns, "one"])
    messages = [("s", "be kind ."), ("u", said), ("a", "sure"), ("u", said)]
    if prefilled:
        messages.append(("a", "I think"))
    prompt = render(tokenizer, said, CHAT, messages=conversation(*messages))
    assert len(prompt.ids) == len(prompt.spans) == len(prompt.offsets)
    assert set(prompt.spans.tolist()) <= {SPANS.index("system"), SPANS.index("content")}
    inside = content_of(prompt)
    assert inside == list(range(inside[0], inside[-1] + 1))
    assert [prompt.ids[i] for i in inside] == encode(tokenizer, said.strip(), "")
    assert prompt.ids[:-1].count(encode(tokenizer, "one", "")[0]) == 2


def test_rows_that_are_alike_are_rendered_once(chat_tokenizer):
    tokenizer = chat_tokenizer()
    rows = pd.DataFrame({"trial": ["a", "b", "c"], "prompt": ["hello", "hello", "sure"]})
    prompts = render_trials(tokenizer, rows)
    assert prompts[0] is prompts[1] and prompts[2] is not prompts[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("elsewhere", r"^The content of trial 't' must be a part of its prompt\.$"),
        ("", r"^The content of trial 't' must be a part of its prompt\.$"),
        (" ", r"^The content of trial 't' must cover a token\.$"),
    ],
)
@pytest.mark.parametrize("template", [None, CHAT])
def test_content_that_is_not_there_is_refused(chat_tokenizer, content, message, template):
    with pytest.raises(StimuliError, match=message):
        render(chat_tokenizer("chatml"), "what is up ?", template, content=content)


def test_a_tokenizer_without_offsets_is_refused(chat_tokenizer, monkeypatch):
    tokenizer = chat_tokenizer()
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    message = r"^trial 't': the subject's tokenizer must tell which .* with a tokenizer\.json\.$"
    with pytest.raises(StimuliError, match=message):
        render(tokenizer, "hello")


TRUNCATING = {"kind": "chat", "too_long": "truncate"}


def test_a_prompt_that_fits_exactly_is_left_alone(chat_tokenizer):
    tokenizer = chat_tokenizer("chatml")
    whole = render(tokenizer, "one two three", CHAT)
    for options in (CHAT, TemplateOptions(**TRUNCATING)):
        same = render(tokenizer, "one two three", options, room=len(whole.ids))
        assert same.ids == whole.ids and same.dropped == 0


def test_a_prompt_that_is_too_long_is_an_error_by_default(chat_tokenizer):
    message = (
        r"^trial 't': a prompt must have at most 10 tokens, so that the response fits into the "
        r"context of the subject\. Got 11: shorten it, or set 'template\.too_long' of the task to "
        r"'truncate'\.$"
    )
    with pytest.raises(StimuliError, match=message):
        render(chat_tokenizer("chatml"), "one two three", CHAT, room=10)


def test_truncation_drops_the_beginning_of_the_content(chat_tokenizer, spans_of):
    tokenizer = chat_tokenizer("chatml")
    options = TemplateOptions(**TRUNCATING)
    prompt = render(tokenizer, "one two three", options, room=9)
    assert spans_of(tokenizer, prompt) == [
        "system: <|im_start|> user \n",
        "content: three",
        "system: <|im_end|> \n <|im_start|> assistant \n",
    ]
    assert prompt.dropped == 2 and prompt.instruction_last == 3
    assert len(prompt.offsets) == len(prompt.ids) == 9
    message = r"^trial 't': .* at most 8 tokens, and only its content .* Got 11, of which 3 are"
    with pytest.raises(StimuliError, match=message):
        render(tokenizer, "one two three", options, room=8)


def test_a_response_that_leaves_no_room_is_named(chat_tokenizer):
    with pytest.raises(StimuliError, match=r"lower 'record\.max_new_tokens' .* by at least 6\."):
        render(chat_tokenizer("chatml"), "one two three", CHAT, room=-5)


def test_the_response_needs_room_in_the_context():
    config = LlamaConfig(max_position_embeddings=100)
    assert prompt_room(config, 10) == 90
    assert prompt_room(GPT2Config(n_positions=50), 10) == 40
    assert prompt_room(MambaConfig(), 10) is None  # no positions, no limit
    assert prompt_room(BertConfig(max_position_embeddings=50), 10) == 50  # it answers nothing


@pytest.fixture
def folder(chat_tokenizer, tmp_path):
    """A subject without weights."""

    def make(family, **sizes):
        chat_tokenizer(family).save_pretrained(tmp_path)
        LlamaConfig(max_position_embeddings=16, **sizes).save_pretrained(tmp_path)
        return tmp_path

    return make


def table(prompt, options):
    template = json.dumps(options.to_dict())
    return pd.DataFrame([{"trial": "t", "prompt": prompt, "template": template}])


def test_prompts_are_checked_without_weights(folder):
    path = folder("chatml")
    assert not list(path.glob("*.safetensors"))
    check_prompts(path, "mine", {"talk": table("hello", CHAT)}, 4)


@pytest.mark.parametrize(
    ("family", "prompt", "options", "message"),
    [
        (
            None,
            "hello",
            CHAT,
            r"^subject 'mine', task 'talk': a task with template\.kind: chat needs a tokenizer "
            r"with a chat template\. That of the subject has none: save one in the model's folder "
            r"\(chat_template\.jinja\), or set 'template\.kind' of the task to 'none' or 'text'\.$",
        ),
        (
            "chatml",
            "hello spaceship",
            CHAT,
            r"^subject 'mine', task 'talk': trial 't': the subject's tokenizer cannot read '.*"
            r"spaceship.*\.$",
        ),
        (
            "chatml",
            "one two three one two three",
            CHAT,
            r"^subject 'mine', task 'talk': trial 't': .* at most 12 tokens.*Got 14",
        ),
    ],
)
def test_what_a_subject_cannot_read_is_told_before_it_is_loaded(
    folder, family, prompt, options, message
):
    with pytest.raises(StimuliError, match=message) as info:
        check_prompts(folder(family), "mine", {"talk": table(prompt, options)}, 4)
    assert "\n" not in str(info.value)


def test_a_token_without_an_embedding_is_told_before_the_model_is_loaded(folder, chat_tokenizer):
    tokenizer = chat_tokenizer("chatml")
    up = tokenizer.convert_tokens_to_ids("up")
    trials = table("what is up ?", CHAT)
    check_prompts(folder("chatml", vocab_size=len(tokenizer)), "mine", {"talk": trials}, 4)
    with pytest.raises(StimuliError) as info:
        check_prompts(folder("chatml", vocab_size=up), "mine", {"talk": trials}, 4)
    assert str(info.value) == (
        "subject 'mine', task 'talk': trial 't': every token must have an embedding in the model, "
        f"whose 'vocab_size' is {up}. Got 'up', token {up} of the {len(tokenizer)} of the "
        "tokenizer: save the model with the tokenizer it was trained with."
    )
