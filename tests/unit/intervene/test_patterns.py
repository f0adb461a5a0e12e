"""Attention patterns: recorded ones clamped change nothing, given ones weigh the values."""

import copy
from types import SimpleNamespace

import pytest
import torch
from families import FAMILIES, tiny_model, tokens
from toys import HEADS, SIZE, Toy

from lmri.anatomy import Subject, attention_outputs, attentions, describe
from lmri.errors import LmriError, SubjectError
from lmri.intervene import (
    INTACT,
    Plan,
    clamped_patterns,
    feasible,
    induction_pattern,
    intervened,
    previous_token_pattern,
    recorded_patterns,
    respond,
)


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


def subject_of(family, attention="sdpa"):
    model = tiny_model(family)
    if attention != model.config._attn_implementation and attention == "eager":
        model = copy.deepcopy(model)
        model.set_attn_implementation("eager")
    return Subject(family, model, None, describe(model))


def logits(subject):
    return subject.model(input_ids=tokens(subject.name)).logits


HEADS_OF = [(0, 1), (1, 0), (1, 3)]


@pytest.mark.parametrize("family", FAMILIES)
def test_clamping_to_recorded_patterns_keeps_every_bit(family):
    subject = subject_of(family)
    intact = logits(subject)
    with recorded_patterns(subject, HEADS_OF) as patterns:
        assert torch.equal(logits(subject), intact)
    assert all(pattern.shape == (3, 14, 14) for pattern in patterns.values())
    with clamped_patterns(subject, patterns):
        assert torch.equal(logits(subject), intact)
    turned = {unit: pattern.roll(1, dims=0) for unit, pattern in patterns.items()}
    with clamped_patterns(subject, turned):
        assert not torch.allclose(logits(subject), intact, atol=1e-4)
    assert torch.equal(logits(subject), intact)
    assert not any(hasattr(m, "lmri_pattern") for m in attentions(subject.model).values())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llama", "gpt_oss", "deepseek_v3", "gpt2", "bert"])
def test_a_head_that_looks_alike_has_the_mean_of_the_values_it_sees(family, attention):
    subject = subject_of(family, attention)
    size, seen = subject.anatomy.head_size, []
    hook = attention_outputs(subject.model)[0].register_forward_pre_hook(
        lambda module, arguments: seen.append(arguments[0].view(3, 14, -1, size))
    )
    alike = torch.ones(14, 14) if family == "bert" else torch.ones(14, 14).tril()
    if family == "gpt_oss":  # a sliding window of 8 tokens
        alike = alike.triu(-7)
    pattern = (alike / alike.sum(1, keepdim=True)).expand(1, -1, -1)
    with clamped_patterns(subject, {(0, 2): pattern}):
        logits(subject)
    with intervened(subject, [INTACT, Plan("uniform", ((0, 2),), "head")]) as session:
        session.rows = torch.tensor([0, 1, 0])
        logits(subject)
    logits(subject)
    hook.remove()
    clamped, planned, intact = seen
    torch.testing.assert_close(planned[1], clamped[1], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(planned[1, :, 2], intact[1, :, 2], atol=1e-3)
    others = [head for head in range(subject.anatomy.heads) if head != 2]
    assert torch.equal(planned[:, :, others], intact[:, :, others])
    assert torch.equal(planned[[0, 2]], intact[[0, 2]])


def test_alike_is_the_same_with_a_cache_and_padding():
    model = tiny_model("llama")
    subject = Subject("llama", model, SimpleNamespace(eos_token_id=127), describe(model))
    prompts = [[1, 4, 7, 9, row] for row in range(10, 14)] + [[1, 5, 6, row] for row in range(4)]
    plan = Plan("uniform", ((0, 1), (1, 2)), "head")
    options = {"plans": [plan], "max_new_tokens": 5, "rows": 64}
    together = respond(subject, prompts, [3] * 8, padding=0.9, **options)
    for prompt, got in zip(prompts, together.tokens, strict=True):
        text = list(prompt)
        with intervened(subject, [plan]):
            for _ in got:
                found = model(input_ids=torch.tensor([text]), use_cache=False).logits
                text.append(int(found[0, -1].argmax()))
        assert text[len(prompt) :] == got.tolist()


def test_ablation_with_the_pattern_kept_takes_exactly_what_the_head_writes():
    # One layer without a final normalisation: logits fall by W_U W_O z of the head, no more.
    model = Toy(linear=True, layers=1)
    torch.nn.init.zeros_(model.model.layers[0].mlp.down_proj.weight)
    subject = Subject("toy", model, None, describe(model))
    ids = torch.tensor([[3, 4, 5, 6]])
    seen = []
    output = attention_outputs(model)[0]
    hook = output.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    intact = model(input_ids=ids).logits
    hook.remove()
    part = slice(SIZE // HEADS, 2 * SIZE // HEADS)
    written = seen[0][..., part] @ output.weight[:, part].T @ model.lm_head.weight.T
    with intervened(subject, [Plan("zero", ((0, 1),), "head")]):
        ablated = model(input_ids=ids).logits
    assert written.abs().max() > 1e-3
    torch.testing.assert_close(ablated, intact - written, rtol=1e-12, atol=1e-12)


def test_what_is_no_pattern_is_refused():
    subject = subject_of("llama")
    good = torch.eye(4).unsqueeze(0)
    for patterns, words in (
        ({(0, 9): good}, "'head' of a pattern"),
        ({(7, 0): good}, "'layer' of a pattern"),
        ({(0, 0): good[0]}, "must have the shape"),
        ({(0, 0): 2 * good}, "at most 1 in all"),
        ({(0, 0): -good}, "at least 0"),
    ):
        with pytest.raises(LmriError, match=words), clamped_patterns(subject, patterns):
            pass
    assert not feasible(Plan("uniform", ((0, 0),), "neuron"), subject.anatomy)


def test_other_implementations_are_refused(monkeypatch):
    subject = subject_of("llama")
    monkeypatch.setattr(subject.model.config, "_attn_implementation", "flash_attention_2")
    with (
        pytest.raises(SubjectError, match=r"'attention' of a subject .* Got 'flash_attention_2'"),
        recorded_patterns(subject, [(0, 0)]),
    ):
        pass


def test_known_patterns_of_previous_tokens_and_of_induction():
    assert previous_token_pattern(3, 0.75).tolist() == [
        [[1, 0, 0], [0.75, 0.25, 0], [0, 0.75, 0.25]]
    ]
    found = induction_pattern([[7, 8, 9, 7, 8], [5, 5, 5, 6, 5]])
    assert found.argmax(-1).tolist() == [[0, 1, 2, 1, 2], [0, 1, 2, 3, 3]]
    assert (found.max(-1).values == 1).all()
    weak = induction_pattern([[7, 8, 9, 7, 8]], 0.5)[0]
    assert weak[3].tolist() == [0, 0.5, 0, 0.5, 0]
    with pytest.raises(LmriError, match=r"'strength' of a pattern .* \[0.0, 1.0\]. Got 1.5"):
        previous_token_pattern(3, 1.5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_changes_of_patterns_nest(attention):
    subject = subject_of("llama", attention)
    intact = logits(subject)
    wanted = induction_pattern(tokens("llama").tolist(), 0.5)
    with clamped_patterns(subject, {(0, 1): wanted}):
        outer = logits(subject)
        with recorded_patterns(subject, [(0, 1), (1, 1)]) as seen:
            assert torch.equal(logits(subject), outer)
        torch.testing.assert_close(seen[0, 1], wanted)
        with intervened(subject, [Plan("uniform", ((0, 1), (1, 0)), "head")]) as session:
            session.rows = torch.zeros(3, dtype=torch.int64)
            both = logits(subject)
        assert torch.equal(logits(subject), outer)
    with intervened(subject, [Plan("uniform", ((0, 1), (1, 0)), "head")]) as session:
        session.rows = torch.zeros(3, dtype=torch.int64)
        assert torch.equal(logits(subject), both), "the later change holds"
    assert torch.equal(logits(subject), intact)
    assert subject.model.config._attn_implementation == attention
    assert not any(hasattr(m, "lmri_pattern") for m in attentions(subject.model).values())
