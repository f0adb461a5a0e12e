"""Which rows follow the rules: first tokens, padding, prefill, many rows."""

import pytest
import torch
from families import configuration, random_model, tiny_model, tokens
from sparse_cases import CLOSE, DECODERS, plan_for, plan_of

from lmri.errors import SparseError
from lmri.sparse.rules import InputThreshold
from lmri.sparse.runtime import sparse


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", ["input_threshold", "neuron_threshold", "attention_top_k"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "mixtral", "llama4_text"])
def test_first_tokens_are_dense(kind, name, backend):
    model, ids = tiny_model(kind), tokens(kind, 2, 9)
    with torch.inference_mode():
        dense = model(ids).logits
        with sparse(model, plan_for(kind, name, dense_tokens=5), backend):
            got = model(ids).logits
        with sparse(model, plan_for(kind, name, dense_tokens=9), backend):
            torch.testing.assert_close(model(ids).logits, dense, **CLOSE)
    torch.testing.assert_close(got[:, :5], dense[:, :5], **CLOSE)
    assert not torch.allclose(got[:, 5:], dense[:, 5:], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["mixed", "cache_heads", "attention_top_k"])
@pytest.mark.parametrize("kind", ["mistral", "mixtral", "qwen3_moe"])
def test_padding_changes_nothing(kind, name):
    """A short text beside a long one, padded on the left: prefill, then tokens from the cache."""
    model = tiny_model(kind)
    plan = plan_for(kind, name, dense_tokens=2)
    short, long = tokens(kind, 1, 6), tokens(kind + "_", 1, 10)
    ids = torch.cat([torch.nn.functional.pad(short, (4, 0)), long])
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    options = {
        "max_new_tokens": 4,
        "do_sample": False,
        "eos_token_id": None,
        "pad_token_id": 0,
        "return_dict_in_generate": True,
        "output_logits": True,
    }
    with torch.inference_mode(), sparse(model, plan, "cpu") as session:
        both = model.generate(ids, attention_mask=mask, **options)
        counted = session.counts.total("prefill").tokens
        session.counts.clear()
        alone = [model.generate(own, **options) for own in (short, long)]
    assert counted == 16
    for row, own in enumerate(alone):
        got = torch.stack([logits[row] for logits in both.logits])
        torch.testing.assert_close(got, torch.stack(own.logits)[:, 0], **CLOSE)


@pytest.mark.parametrize("kind", DECODERS)
def test_a_dense_prefill_leaves_long_passes_alone(kind):
    model, ids = tiny_model(kind), tokens(kind, 1, 12)
    plan = plan_for(kind, "input_threshold", dense_prefill=True)
    with torch.inference_mode(), sparse(model, plan) as session:
        inside = model(ids, use_cache=True)
        assert session.counts.total("prefill").sparsity == 0
        model(ids[:, :1], past_key_values=inside.past_key_values)
        assert session.counts.total("decode").sparsity > 0
    with torch.inference_mode():
        torch.testing.assert_close(inside.logits, model(ids).logits, **CLOSE)


def test_many_rows_are_masked_products():
    """Sixteen sequences decode one token each: as each of them alone."""
    model, ids = tiny_model("llama"), tokens("llama", 16, 3)
    plan = plan_for("llama", "mixed")
    with torch.inference_mode(), sparse(model, plan):
        together = model(ids).logits
        for row in (0, 15):
            alone = model(ids[row : row + 1]).logits
            torch.testing.assert_close(together[row : row + 1], alone, **CLOSE)


def test_embeddings_as_input_and_arguments_in_order():
    model, ids = tiny_model("llama"), tokens("llama", 1, 6)
    with torch.inference_mode(), sparse(model, plan_for("llama", "input_threshold")):
        expected = model(ids).logits
        made = model(inputs_embeds=model.model.embed_tokens(ids)).logits
        torch.testing.assert_close(made, expected)
        inner = model.model(ids, torch.ones_like(ids)).last_hidden_state
        torch.testing.assert_close(model.lm_head(inner), expected)


def test_a_module_on_its_own_is_refused():
    model = random_model(configuration("llama"))
    plan = plan_of(InputThreshold(0, "query", torch.tensor(0.1)))
    with sparse(model, plan), pytest.raises(SparseError, match="call the model"):
        model.model.layers[0].self_attn.q_proj(torch.zeros(1, 3, 32))


@pytest.mark.parametrize("name", ["input_threshold", "cache_heads"])
def test_a_mask_without_positions_is_refused(name):
    model, ids = tiny_model("llama"), tokens("llama", 1, 4)
    mask = torch.zeros(1, 1, 4, 4)
    plan = plan_for("llama", name, dense_tokens=2 * (name == "input_threshold"))
    with sparse(model, plan), pytest.raises(SparseError, match="attention_mask"):
        model(ids, attention_mask=mask)
    with torch.inference_mode(), sparse(model, plan_for("llama", "input_threshold")):
        model(ids, attention_mask=mask)


def test_position_ids_tell_where_sequences_begin():
    """A mask of scores, as generate makes it for some caches, and the ids beside it."""
    model, ids = tiny_model("llama"), tokens("llama", 2, 6)
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    seen = mask.bool()[:, None, None, :] & torch.ones(6, 6, dtype=torch.bool).tril()
    added = torch.zeros(2, 1, 6, 6).masked_fill(~seen, torch.finfo(torch.float32).min)
    plan = plan_of(
        *plan_for("llama", "cache_heads").rules,
        *plan_for("llama", "input_threshold").rules,
        dense_tokens=2,
    )
    with torch.inference_mode(), sparse(model, plan) as session:
        expected = model(ids, attention_mask=mask, position_ids=positions).logits
        counted = session.counts.rules()
        session.counts.clear()
        got = model(ids, attention_mask=added, position_ids=positions).logits
    torch.testing.assert_close(got[mask.bool()], expected[mask.bool()], **CLOSE)
    assert session.counts.rules() == counted
