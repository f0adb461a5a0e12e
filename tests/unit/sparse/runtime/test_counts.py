"""What sessions say was read and skipped, and interventions inside them."""

import pytest
import torch
from families import configuration, random_model, tiny_model, tokens
from sparse_cases import CLOSE, plan_for, plan_of

from lmri.anatomy import Subject, describe
from lmri.anatomy.linears import linears
from lmri.errors import SparseError
from lmri.intervene import Plan, intervened, tapped_experts
from lmri.sparse.rules import InputThreshold, KeptHeads, KeptNeurons, NeuronThreshold
from lmri.sparse.runtime import sparse


def test_channels_are_counted_where_they_are_read():
    """Against the inputs themselves, padding left out, prefill and decoding apart."""
    model, ids = tiny_model("llama"), tokens("llama", 2, 6)
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    seen = []
    limit = torch.tensor(0.4)
    plan = plan_of(InputThreshold(0, "query", limit), InputThreshold(0, "key", limit))
    hook = model.model.layers[0].self_attn.q_proj.register_forward_pre_hook(
        lambda module, given: seen.append(given[0])
    )
    with torch.inference_mode(), sparse(model, plan) as session:
        past = model(ids, attention_mask=mask).past_key_values
        longer = torch.cat([mask, torch.ones(2, 1, dtype=mask.dtype)], dim=1)
        model(ids[:, :1], attention_mask=longer, past_key_values=past)
    hook.remove()
    above = [(x.abs() > limit).flatten(0, 1) for x in seen]
    read = int(above[0][mask.bool().flatten()].sum()), int(above[1].sum())
    counts = {(c.phase, c.site): c for c in session.counts.rules()}
    for phase, kept, rows in (("prefill", read[0], 10), ("decode", read[1], 2)):
        for site in ("query", "key"):
            assert (counts[phase, site].kept, counts[phase, site].units) == (kept, rows * 32)
        total = session.counts.total(phase)
        assert (total.tokens, total.governed) == (rows, rows * 32 * 48)
        assert total.read == kept * 48
        assert total.flops_saved == 2 * (total.governed - total.read)
        assert total.bytes_saved == 4 * (total.governed - total.read)


def test_gated_neurons_save_up_and_down():
    """CATS at a share s of neurons saves 2 s / 3 of an MLP."""
    model, ids = tiny_model("llama"), tokens("llama", 1, 6)
    plan = plan_of(NeuronThreshold(0, "dense", torch.tensor(0.2)))
    with torch.inference_mode(), sparse(model, plan) as session:
        model(ids)
    share = session.counts.rules()[0].sparsity
    assert 0.1 < share < 0.9
    assert session.counts.total("prefill").sparsity == pytest.approx(2 / 3 * share)


def test_static_sets_count_what_exists():
    model, ids = tiny_model("llama"), tokens("llama", 1, 6)
    plan = plan_of(KeptNeurons(0, "dense", tuple(range(12))), KeptHeads(1, (0,)))
    with torch.inference_mode(), sparse(model, plan) as session:
        model(ids)
    assert [c.sparsity for c in session.counts.rules()] == [0.75, 0.75]
    by_name = {(c.layer, c.projection): c.read / c.parameters for c in session.counts.projections()}
    assert by_name[0, "gate"] == by_name[0, "up"] == by_name[0, "down"] == 0.25
    assert by_name[1, "query"] == by_name[1, "attention_output"] == 0.25
    assert by_name[1, "key"] == by_name[1, "value"] == 0.5


def test_the_denominator_of_the_model():
    model = tiny_model("llama")
    with torch.inference_mode(), sparse(model, plan_for("llama", "input_threshold")) as session:
        model(tokens("llama", 1, 6))
    total = session.counts.total("prefill")
    matrices = sum(p.numel() for n, p in model.named_parameters() if p.dim() == 2)
    assert total.model == matrices - model.model.embed_tokens.weight.numel()
    governed = sum(p.parameters for own in linears(model).values() for p in own.values())
    assert total.governed == 6 * governed
    assert total.model_sparsity < total.sparsity


def test_counting_can_be_left_out():
    model, ids = tiny_model("mixtral"), tokens("mixtral", 1, 6)
    plan = plan_for("mixtral", "mixed")
    with torch.inference_mode():
        with sparse(model, plan) as session:
            counted = model(ids).logits
        assert session.counts.rules()
        session.counts.clear()
        assert session.counts.total("prefill").tokens == 0
        with sparse(model, plan, count=False) as session:
            assert torch.equal(model(ids).logits, counted)
        assert not session.counts.rules() and not session.counts.projections()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", ["neuron_threshold", "kept_neurons", "input_threshold"])
def test_neurons_and_heads_can_be_set_inside(name, backend):
    """An intervention on units finds them under any plan: here all that could be seen is off."""
    model, ids = tiny_model("llama"), tokens("llama", 1, 6)
    subject = Subject("tiny", model, None, describe(model))
    neurons = Plan("zero", tuple((layer, n) for layer in (0, 1) for n in range(48)), "neuron")
    heads = Plan("zero", tuple((layer, h) for layer in (0, 1) for h in range(4)), "head")
    with torch.inference_mode():
        embedded = model.lm_head(model.model.norm(model.model.embed_tokens(ids)))
        with (
            sparse(model, plan_for("llama", name), backend),
            intervened(subject, [neurons]),
            intervened(subject, [heads]),
        ):
            torch.testing.assert_close(model(ids).logits, embedded, **CLOSE)


@pytest.mark.parametrize("order", ["inside", "outside"])
def test_neurons_of_experts_can_be_set_and_tapped_inside(order):
    model, ids = random_model(configuration("mixtral")), tokens("mixtral", 1, 6)
    subject = Subject("tiny", model, None, describe(model))
    units = tuple((0, expert, n) for expert in range(8) for n in range(8))
    off = Plan("zero", units, "expert_neuron")
    seen = {}
    plan = plan_for("mixtral", "neuron_threshold")
    contexts = [intervened(subject, [off]), sparse(model, plan)]
    first, second = contexts if order == "outside" else contexts[::-1]
    tap = tapped_experts(model, lambda layer, neurons, ids: seen.update({layer: neurons}))
    with torch.inference_mode():
        with first, second, tap:
            got = model(ids).logits
        assert not seen[0][..., :8].any() and seen[0][..., 8:].any()
        with sparse(model, plan, "reference"), intervened(subject, [off]):
            torch.testing.assert_close(model(ids).logits, got, **CLOSE)
    assert ((seen[1] == 0).float().mean() > 0.05) and seen[1].any()


def test_neurons_of_experts_are_not_adjusted_under_rules_for_them():
    """Never in silence: rules make no preactivations of neurons that they skip."""
    model, ids = random_model(configuration("mixtral")), tokens("mixtral", 1, 6)
    subject = Subject("tiny", model, None, describe(model))
    values = {(0, expert, 1): (0.0, 1.0, 2.0, 1e-3) for expert in range(8)}
    adjusted = Plan.of("adjust", list(values), "expert_neuron", values)
    with (
        torch.inference_mode(),
        sparse(model, plan_for("mixtral", "neuron_threshold")),
        intervened(subject, [adjusted]),
        pytest.raises(SparseError, match="must not be adjusted under rules for these experts"),
    ):
        model(ids)
