"""Every family: what is captured is what the model did, and capturing changes no bit of it."""

import copy

import pytest
import torch
from families import FAMILIES, MIXTURES, tiny_model, tokens
from transformers.activations import ACT2FN

from lmri.anatomy import (
    QUANTITIES,
    Subject,
    added_by_attention,
    added_by_mlp,
    architecture_of,
    attention_outputs,
    blocks,
    dense_outputs,
    describe,
    expert_groups,
    output_of_router,
    routers,
    shared_gates,
    shared_outputs,
    trunk,
)
from lmri.errors import StoreError, SubjectError
from lmri.record.capture import Batch
from lmri.record.hooks import capturing
from lmri.record.next_token import next_token_statistics
from lmri.record.pooling import STATISTICS

EVERYTHING = set(QUANTITIES)
MEAN, COUNT = STATISTICS.index("mean"), STATISTICS.index("count")


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


def subject_of(kind):
    model = tiny_model(kind)
    return Subject(kind, model, None, describe(model))


def batch_of(ids, lengths=None):
    """Two phases: the first five tokens, and all."""
    positions = torch.arange(ids.shape[1])
    lengths = torch.tensor(lengths or [ids.shape[1]] * len(ids)).unsqueeze(1)
    real = positions < lengths
    return Batch(ids, real, torch.stack([real & (positions < 5), real], 1), real)


def run(subject, batch, **options):
    """Forward pass as the recorder does it: only an encoder is told of padding."""
    if subject.anatomy.encoder:
        options["attention_mask"] = batch.real.long()
    return subject.model(input_ids=batch.ids, **options)


def captured(subject, batch, quantities=EVERYTHING, full=EVERYTHING, dtype="float32"):
    with capturing(subject, quantities, full, dtype) as capture:
        capture.begin(batch)
        run(subject, batch)
    return capture


def hooks_of(model):
    """Hooks on every module: transformers leaves some of its own."""
    parts = ("_forward_hooks", "_forward_pre_hooks")
    return [len(getattr(module, part)) for module in model.modules() for part in parts]


class Outputs:
    """Outputs of modules, by layer."""

    def __init__(self, modules):
        self.values = {}
        self._hooks = [
            module.register_forward_hook(
                # A copy: Llama 4 adds the routed output to the shared one in place.
                lambda m, a, o, i=i: self.values.update(
                    {i: (o[0] if isinstance(o, tuple) else o).clone()}
                )
            )
            for i, module in modules.items()
        ]

    def __enter__(self):
        return self.values

    def __exit__(self, *details):
        for hook in self._hooks:
            hook.remove()


@pytest.mark.parametrize("kind", FAMILIES)
def test_outputs_stay_the_same_to_the_bit_and_all_is_restored(kind):
    subject = subject_of(kind)
    batch = batch_of(tokens(kind), [14, 9, 14])
    before = run(subject, batch).logits
    attention, hooks = subject.model.config._attn_implementation, hooks_of(subject.model)
    with capturing(subject, EVERYTHING, EVERYTHING) as capture:
        capture.begin(batch)
        assert torch.equal(run(subject, batch).logits, before)
    assert subject.model.config._attn_implementation == attention
    assert hooks_of(subject.model) == hooks
    assert torch.equal(run(subject, batch).logits, before)
    assert set(capture.pooled) | set(capture.tokens) == set(capture.variables)


@pytest.mark.parametrize("asked", ["grouped_mm", "eager", "batched_mm"])
def test_only_grouped_experts_are_run_in_another_way(asked):
    subject = copy.deepcopy(subject_of("olmoe"))
    subject.model.set_experts_implementation(asked)
    with capturing(subject, {"router"}, set()):
        used = subject.model.get_experts_implementation()
    assert used == {"": "lmri" if asked == "grouped_mm" else asked}
    assert subject.model.get_experts_implementation() == {"": asked}


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_variable_has_the_shape_the_table_says(kind):
    subject = subject_of(kind)
    capture = captured(subject, batch_of(tokens(kind), [14, 9, 14]))
    for path, parts in capture.tokens.items():
        assert parts.together().shape == (37, *capture.variables[path].shape)
    for path, parts in capture.pooled.items():
        pooled = parts.together()
        assert pooled.shape == (3, 2, 5, *capture.variables[path].shape)
        assert pooled.dtype == torch.float32
        assert torch.isfinite(pooled).all(), path


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_residual_grows_by_attention_and_mlp(kind):
    subject, batch = subject_of(kind), batch_of(tokens(kind))
    model, row = subject.model, architecture_of(subject.model)
    factor = getattr(model.config, row.multiplier) if row.multiplier else 1.0
    with (
        Outputs(added_by_attention(model)) as by_attention,
        Outputs(added_by_mlp(model)) as by_mlp,
    ):
        capture = captured(subject, batch, {"residual"}, {"residual"})
    parts = capture.tokens["residual/residual"]
    for layer, block in enumerate(blocks(model)):
        states = [parts[layer, place] for place in range(len(subject.anatomy.places))]
        attention = factor * by_attention[layer].reshape(-1, 32)
        mlp = factor * by_mlp[layer].reshape(-1, 32)
        if row.residual == "post_norm":
            middle = block.attention.output.LayerNorm(states[0] + attention)
            expected = [states[0], middle, block.output.LayerNorm(middle + mlp)]
        elif row.residual == "parallel":
            expected = [states[0], states[0] + attention + mlp]
        else:
            expected = [states[0], states[0] + attention, states[0] + attention + mlp]
        torch.testing.assert_close(torch.stack(states), torch.stack(expected), rtol=1e-5, atol=1e-5)
        assert (states[-1] - states[0]).abs().max() > 0.01


@pytest.mark.parametrize("kind", FAMILIES)
def test_neurons_and_heads_give_their_projections_output(kind):
    subject, batch = subject_of(kind), batch_of(tokens(kind))
    model = subject.model
    sites = {
        "neuron/activation": dense_outputs(model),
        "shared_neuron/activation": shared_outputs(model),
        "head_output/output": attention_outputs(model),
    }
    for path, modules in sites.items():
        with Outputs(modules) as outputs:
            capture = captured(subject, batch)
        for layer, module in modules.items():
            kept = capture.tokens[path][layer,].flatten(1)
            torch.testing.assert_close(
                module(kept), outputs[layer].reshape(-1, 32), rtol=1e-5, atol=1e-5
            )


DENSE = tuple(kind for kind in FAMILIES if dense_outputs(tiny_model(kind)))


def activation_of(config):
    """Activation function by the name that a family gives it."""
    names = ("hidden_act", "hidden_activation", "activation_function")
    return ACT2FN[next(filter(None, (getattr(config, name, None) for name in names)))]


def up_projections(model):
    """What a gated MLP multiplies with, by layer; gate and rest together in Phi-3."""
    return {
        layer: module
        for layer in dense_outputs(model)
        for name, module in blocks(model)[layer].named_modules()
        if name.endswith((".up_proj", ".gate_up_proj"))
    }


@pytest.mark.parametrize("kind", DENSE)
def test_activation_of_the_preactivation_times_the_rest_is_the_neuron(kind):
    subject, batch = subject_of(kind), batch_of(tokens(kind), [14, 9, 14])
    model, asked = subject.model, {"neuron", "preactivation"}
    with Outputs(up_projections(model)) as ups:
        capture = captured(subject, batch, asked, asked)
    activation = activation_of(model.config)
    assert list(capture.tokens["preactivation/preactivation"]) == [
        (layer,) for layer in subject.anatomy.dense_layers
    ]
    assert bool(ups) == (kind not in {"bert", "gpt2", "gpt_neox", "phi"})
    for (layer,), kept in capture.tokens["preactivation/preactivation"].items():
        up = ups[layer].reshape(*batch.ids.shape, -1)[batch.real][:, -48:] if ups else 1.0
        neurons = activation(kept) * up
        expected = capture.tokens["neuron/activation"][layer,]
        torch.testing.assert_close(neurons, expected, rtol=1e-5, atol=1e-5)
        pooled = capture.pooled["preactivation/preactivation"][layer,]
        torch.testing.assert_close(pooled[0, 1, MEAN], kept[:14].mean(0), rtol=1e-5, atol=1e-6)
        assert (kept < 0).any() and (kept > 0).any()


def test_preactivations_are_recorded_only_when_asked_for():
    subject, batch = subject_of("llama"), batch_of(tokens("llama"))
    capture = captured(subject, batch, {"neuron"}, set())
    assert set(capture.pooled) == {"neuron/activation"}
    capture = captured(subject, batch, {"preactivation"}, set())
    assert set(capture.pooled) == {"preactivation/preactivation"}
    assert not capture.tokens


def test_a_model_that_is_refused_is_left_without_hooks():
    subject = subject_of("llama")
    model = copy.deepcopy(subject.model)
    del model.model.layers[1].mlp.act_fn
    model.model.layers[1].mlp.act_fn = torch.nn.functional.silu
    before = hooks_of(model)
    with (
        pytest.raises(SubjectError, match=r"in block 1 \(LlamaDecoderLayer\)"),
        capturing(Subject("plain", model, None, subject.anatomy), EVERYTHING, set()),
    ):
        pass
    assert hooks_of(model) == before


SHARED = tuple(kind for kind in MIXTURES if shared_outputs(tiny_model(kind)))


@pytest.mark.parametrize("kind", SHARED)
def test_routed_and_shared_experts_are_the_blocks_output(kind):
    model = tiny_model(kind)
    with (
        Outputs(expert_groups(model)) as routed,
        Outputs(shared_outputs(model)) as shared,
        Outputs(shared_gates(model)) as gates,
        Outputs(added_by_mlp(model)) as block,
    ):
        model(input_ids=tokens(kind))
    assert list(gates) == ([1] if kind == "qwen2_moe" else [])
    scale = torch.sigmoid(gates[1]) if gates else 1.0
    by_experts = routed[1].reshape(-1, 42, 32).sum(0)  # Llama 4 gives one output per expert
    together = by_experts + scale * shared[1].reshape(42, 32)
    torch.testing.assert_close(together, block[1].reshape(42, 32), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", MIXTURES)
def test_logits_weights_and_ids_are_the_routers(kind):
    subject, batch, said = subject_of(kind), batch_of(tokens(kind)), {}
    rule = subject.anatomy.routing

    def keep(module, arguments, output):
        said["router"] = output_of_router(rule, output, 2)

    hook = routers(subject.model)[1].register_forward_hook(keep)
    capture = captured(subject, batch)
    hook.remove()
    for path, values in zip(
        ("router/logits", "router/weight", "router/expert_id"), said["router"], strict=True
    ):
        assert torch.equal(capture.tokens[path][1,], values.cpu())


@pytest.mark.parametrize("kind", MIXTURES)
def test_pooled_experts_are_sums_of_their_tokens(kind):
    subject, batch = subject_of(kind), batch_of(tokens(kind), [14, 9, 14])
    slots = captured(subject, batch)
    pools = captured(subject, batch, full=set()).expert_pools[1]
    ids = slots.tokens["router/expert_id"][1,]
    neurons = slots.tokens["expert_neuron/activation"][1,]
    ends = torch.tensor([14, 9, 14]).cumsum(0).tolist()
    seen = 0
    for row, (start, stop) in enumerate(zip([0, *ends], ends, strict=False)):
        for phase, last in enumerate((start + 5, stop)):
            for expert in ids[start:last].unique().tolist():
                chosen = ids[start:last] == expert
                values = neurons[start:last][chosen]
                at = (pools.row == row) & (pools.phase == phase) & (pools.expert == expert)
                assert pools.count[at].tolist() == [int(chosen.sum())]
                torch.testing.assert_close(pools.total[at][0], values.sum(0))
                torch.testing.assert_close(pools.squares[at][0], values.square().sum(0))
                seen += 1
    assert seen == len(pools.row)


@pytest.mark.parametrize("kind", FAMILIES)
def test_padding_never_enters_a_pool(kind):
    subject, ids = subject_of(kind), tokens(kind)
    batch = batch_of(ids, [14, 9, 11])
    other = ids.masked_fill(~batch.real, 77)
    one, two = captured(subject, batch), captured(subject, batch_of(other, [14, 9, 11]))
    # Experts run padding too, and products of another number of rows round otherwise.
    tolerance = 1e-5 if kind in MIXTURES else 0.0
    for mine, theirs in ((one.pooled, two.pooled), (one.tokens, two.tokens)):
        for path, parts in mine.items():
            for place, values in parts.items():
                torch.testing.assert_close(
                    values, theirs[path][place], rtol=tolerance, atol=10 * tolerance, msg=path
                )


@pytest.mark.parametrize("kind", FAMILIES)
def test_another_batch_agrees_to_rounding(kind):
    subject, ids = subject_of(kind), tokens(kind)
    together = captured(subject, batch_of(ids, [14, 9, 11]))
    alone = captured(subject, batch_of(ids[1:2, :9]))
    for path, parts in alone.pooled.items():
        for place, values in parts.items():
            scale = values.abs().max().clamp_min(1e-3)
            difference = (together.pooled[path][place][1] - values[0]).abs().max()
            assert difference <= 1e-5 * scale, path


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind != "bert"])
def test_next_token_statistics_are_those_of_the_models_logits(kind):
    model, ids = tiny_model(kind), tokens(kind)
    logits = torch.log_softmax(model(input_ids=ids).logits[:, :-1].flatten(0, 1).double(), -1)
    states = trunk(model)(input_ids=ids, use_cache=False).last_hidden_state
    got = next_token_statistics(model, states[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    expected = logits.gather(1, ids[:, 1:].reshape(-1, 1)).squeeze(1)
    torch.testing.assert_close(got[0].double(), expected, rtol=1e-5, atol=1e-5)
    entropy = -(logits.exp() * logits).sum(-1)
    torch.testing.assert_close(got[1].double(), entropy, rtol=1e-5, atol=1e-5)


def test_a_value_that_is_not_finite_stays_in_its_phase():
    subject = subject_of("llama")
    model = copy.deepcopy(subject.model)
    model.model.layers[1].mlp.down_proj.weight[0, 0] = float("inf")
    capture = captured(Subject("broken", model, None, subject.anatomy), batch_of(tokens("llama")))
    norms = capture.pooled["layer/norm"].together()
    assert torch.isfinite(norms[:, :, MEAN, 0]).all()
    assert not torch.isfinite(norms[:, :, MEAN, 1, 2]).any()
    assert (norms[:, 0, COUNT] == 5).all()


@pytest.mark.parametrize(("stored", "fits"), [("float16", False), ("bfloat16", True)])
def test_a_value_too_large_for_its_type_is_refused(stored, fits):
    subject = subject_of("llama")
    model = copy.deepcopy(subject.model)
    model.model.layers[1].mlp.down_proj.weight[0] = 1e8
    large = Subject("large", model, None, subject.anatomy)
    batch, asked = batch_of(tokens("llama")), {"residual"}
    if fits:
        kept = captured(large, batch, asked, asked, stored).tokens["residual/residual"]
        assert kept[1, 2].dtype == torch.bfloat16
        return
    with pytest.raises(StoreError, match=r"'tokens/residual/residual': .* exceed float16"):
        captured(large, batch, asked, asked, stored)


@pytest.fixture(params=["compiled", "by torch"])
def narrowing(request, monkeypatch):
    """With the loops in C++, and without."""
    if request.param == "by torch":
        monkeypatch.setattr("lmri.record.capture.load_reductions", lambda: None)


RESIDUAL = "residual/residual"


@pytest.fixture
def halves(narrowing):
    """A capture of the residual in half precision, before a batch whose second row is padded."""
    subject, asked = subject_of("llama"), {"residual"}
    with capturing(subject, asked, asked, "float16") as capture:
        capture.begin(batch_of(tokens("llama"), [14, 9, 14]))
        yield capture


def test_values_that_fit_are_not_looked_at_one_by_one(halves, monkeypatch):
    monkeypatch.setattr("lmri.record.capture.encode", lambda *_: pytest.fail("looked at each"))
    values = 90 + torch.rand(3, 14, 32)  # their sum is not finite in half precision
    values[1, 9:] = 1e6  # padding
    halves.keep(RESIDUAL, (0, 1), values)
    real = torch.cat([values[0], values[1, :9], values[2]])
    assert real.sum().half().isinf()
    assert halves.tokens[RESIDUAL][0, 1].equal(real.half())


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_is_what_torch_narrows(halves, apart, dtype):
    values = torch.randn(3, 14, 32).to(dtype)
    values = values.transpose(0, 2).contiguous().transpose(0, 2) if apart else values
    halves.keep(RESIDUAL, (1, 2), values)
    real = torch.cat([values[0], values[1, :9], values[2]])
    assert halves.tokens[RESIDUAL][1, 2].equal(real.half())


def test_values_that_do_not_fit_are_refused(halves):
    values = torch.ones(3, 14, 32)
    values[2, 3, 4] = -7e4
    with pytest.raises(StoreError, match=r"1 of 1184 values exceed float16"):
        halves.keep(RESIDUAL, (0, 0), values)


def test_values_that_are_not_finite_are_kept(halves):
    values = torch.ones(3, 14, 32)
    values[0, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    halves.keep(RESIDUAL, (0, 0), values)
    kept = halves.tokens[RESIDUAL][0, 0]
    assert kept[0, 0].isnan()
    assert kept[0, 1:3].tolist() == [torch.inf, -torch.inf]
    assert kept.isfinite().sum() == kept.numel() - 3


def test_only_what_is_asked_for_is_captured():
    subject = subject_of("olmoe")
    capture = captured(subject, batch_of(tokens("olmoe")), {"router"}, set())
    assert set(capture.tokens) == {"router/expert_id", "router/weight"}
    assert set(capture.pooled) == {"router/logits"}
    assert not capture.expert_pools


def test_experts_of_every_layer_are_fused():
    # What the tap relies on; a new family with another layout must come with its own tests.
    for kind in MIXTURES:
        for group in expert_groups(tiny_model(kind)).values():
            assert group.gate_up_proj.ndim == group.down_proj.ndim == 3
