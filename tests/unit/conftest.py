"""Small tokenizers with the chat templates of real families."""

import json
import re

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

# What each family writes, with its real words; the vocabulary is that of the tests.
TEMPLATES = {
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama3": (
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + "
        "'<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "qwen3": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        "{% if enable_thinking is defined and enable_thinking is false %}"
        "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
    ),
    "deepseek": (
        "{{ bos_token }}{% for m in messages %}"
        "{% if m.role == 'system' %}{{ m.content }}"
        "{% elif m.role == 'user' %}{{ '<|User|>' + m.content }}"
        "{% else %}{{ '<|Assistant|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
    ),
    "harmony": (
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|end|>' }}"
        "{% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
    ),
    # The system text is written into the first message of the user.
    "gemma": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}"
        "{% set first = messages[0].content + '\n\n' %}{% set rest = messages[1:] %}"
        "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}{% if m.role == 'user' %}"
        "{{ '<start_of_turn>user\n' + (first if loop.first else '') + m.content | trim }}"
        "{% else %}{{ '<start_of_turn>model\n' + m.content }}{% endif %}"
        "{{ '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    "bare": "{% for m in messages %}{{ m.content }}{% endfor %}",
    "dated": (
        "{{ '<|im_start|>' + strftime_now('%d %b %Y') + '<|im_end|>' }}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    ),
    "shouting": "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
    "strict": (
        "{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}{{ m.content }}{% endfor %}"
    ),
}
MARKS = r"<\|?\w+\|?>|</\w+>"
SPEAKERS = ["system", "user", "assistant", "model", "analysis", "final"]
WORDS = [
    *SPEAKERS,
    *["what", "is", "up", "?", "be", "kind", ".", "hello", "sure", ",", "I", "think", "so"],
    *["one", "two", "three"],
]


@pytest.fixture(scope="session")
def chat_tokenizer():
    """Make a tokenizer of words, line breaks and the special tokens of a template."""
    from transformers import PreTrainedTokenizerFast

    def make(family=None, extra=(), bos=False):
        source = TEMPLATES.get(family, "")
        marks = list(dict.fromkeys(["<s>", "</s>", *re.findall(MARKS, source), *extra]))
        words = [*marks, "\n", "\n\n", *WORDS]
        backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
        pattern = Regex(r"\n\n|\n|\w+|[^\w\s]")
        backend.pre_tokenizer = pre_tokenizers.Split(pattern, "removed", invert=True)
        backend.add_special_tokens([AddedToken(mark, normalized=False) for mark in marks])
        backend.decoder = decoders.Fuse()
        if bos:
            backend.post_processor = processors.TemplateProcessing(
                single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
            )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>"
        )
        tokenizer.chat_template = source or None
        return tokenizer

    return make


@pytest.fixture(scope="session")
def spans_of():
    """Tokens of a prompt in runs of one span: ``system: a b``."""
    from lmri.anatomy import SPANS

    def show(tokenizer, prompt):
        runs = []
        for piece, code in zip(
            tokenizer.convert_ids_to_tokens(prompt.ids), prompt.spans, strict=True
        ):
            if not runs or runs[-1][0] != SPANS[code]:
                runs.append((SPANS[code], []))
            runs[-1][1].append(piece)
        return [f"{name}: {' '.join(pieces)}" for name, pieces in runs]

    return show


@pytest.fixture(scope="session")
def conversation():
    """Write messages as the column of a table: s, u and a are the speakers."""
    roles = {"s": "system", "u": "user", "a": "assistant"}

    def write(*turns):
        return json.dumps([{"role": roles[who], "content": text} for who, text in turns])

    return write
