"""What a session computes against models changed by hand, what it reads, and what it restores."""

import pytest
import torch
from families import FAMILIES, configuration, random_model, tiny_model, tokens
from sparse_cases import CLOSE, DECODERS, LATENT, plan_for, plan_of, state

from lmri.anatomy import attention_outputs, dense_outputs, shared_outputs
from lmri.anatomy.linears import linears, mlps
from lmri.intervene import Plan, intervened
from lmri.sparse.kernels import ACTIVATIONS
from lmri.sparse.kernels.cpu import Cpu
from lmri.sparse.rules import (
    AttentionTopK,
    CacheHeads,
    ExpertRatio,
    GateCutoff,
    InputThreshold,
    InputTopK,
    KeptHeads,
    KeptNeurons,
    NeuronThreshold,
    SkippedExperts,
)
from lmri.sparse.runtime import sparse
from lmri.sparse.runtime.neurons import KNOWN

BACKENDS = ("reference", "cpu")


def everything_at_zero(kind):
    """Rules everywhere that skip nothing but zeros."""
    model = tiny_model(kind)
    rules = []
    for layer, found in linears(model).items():
        rules += [InputThreshold(layer, name, torch.tensor(0.0)) for name in found]
        rules += [KeptHeads(layer, (0, 1, 2, 3)), AttentionTopK(layer, 10_000)]
    for layer, groups in mlps(model).items():
        for group, mlp in groups.items():
            rules.append(NeuronThreshold(layer, group, torch.tensor(0.0)))
            for expert in range(mlp.down.experts) or [None]:
                rules.append(KeptNeurons(layer, group, tuple(range(mlp.neurons)), expert))
        if "expert" in groups and kind != "llama4_text":
            rules += [SkippedExperts(layer, ()), ExpertRatio(layer, 1e-30)]
        if kind not in (*LATENT, "bert"):
            rules.append(CacheHeads(layer, (), 0, 10_000))
    return plan_of(*rules)


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_plan_that_skips_nothing_is_the_dense_model(kind, backend):
    model, plan = tiny_model(kind), everything_at_zero(kind)
    with torch.inference_mode():
        for ids in (tokens(kind, 1, 6), tokens(kind, 2, 12)):
            dense = model(ids).logits
            with sparse(model, plan, backend) as session:
                torch.testing.assert_close(model(ids).logits, dense, **CLOSE)
        total = session.counts.total("prefill")
    assert total.sparsity < 0.01


@pytest.mark.parametrize("kind", FAMILIES)
def test_restored_bit_for_bit(kind):
    model, ids = random_model(configuration(kind)), tokens(kind, 1, 6)
    before, own = state(model), dict(model.__dict__)
    with torch.inference_mode():
        dense = model(ids).logits
        with sparse(model, plan_for(kind, "mixed")):
            model(ids)
        with pytest.raises(ZeroDivisionError), sparse(model, plan_for(kind, "input_threshold")):
            raise ZeroDivisionError
        assert torch.equal(model(ids).logits, dense)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) and value.is_contiguous(), name
    assert set(model.__dict__) == set(own)
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_nothing_is_left_behind_when_a_module_fails():
    model = random_model(configuration("llama"))
    with pytest.raises(IndexError), sparse(model, plan_for("llama", "attention_top_k")):
        model(torch.tensor([[4000]]))
    assert model.config._attn_implementation == "sdpa"
    assert not any(hasattr(m, "lmri_sparse_attention") for m in model.modules())


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_kept_neurons_and_heads_are_the_others_at_zero(kind, backend):
    """Packed weights against the whole model with neurons and heads set to 0."""
    model, ids = tiny_model(kind), tokens(kind, 1, 7)
    heads = {0: (1,), 1: (0, 3)}
    neurons = tuple(range(1, 16, 2))
    groups = {"dense": dense_outputs(model), "shared": shared_outputs(model)}
    rules = [KeptHeads(layer, own) for layer, own in heads.items()]
    rules += [KeptNeurons(layer, g, neurons) for g, own in groups.items() for layer in own]

    def only(kept, size):
        def hook(module, arguments):
            mask = torch.zeros(arguments[0].shape[-1] // size, dtype=torch.bool)
            mask[list(kept)] = True
            return (arguments[0] * mask.repeat_interleave(size), *arguments[1:])

        return hook

    hooks = []
    for layer, module in attention_outputs(model).items():
        size = linears(model)[layer]["attention_output"].inputs // 4
        hooks.append(module.register_forward_pre_hook(only(heads[layer], size)))
    for own in groups.values():
        hooks += [m.register_forward_pre_hook(only(neurons, 1)) for m in own.values()]
    with torch.inference_mode():
        expected = model(ids).logits
        for hook in hooks:
            hook.remove()
        with sparse(model, plan_of(*rules), backend):
            torch.testing.assert_close(model(ids).logits, expected, **CLOSE)


@pytest.mark.parametrize("mode", ["mask", "zero", "zero_renormalise"])
@pytest.mark.parametrize("kind", ["mixtral", "deepseek_v3", "gpt_oss"])
def test_skipped_experts_are_those_of_an_intervention(kind, mode):
    from lmri.anatomy import Subject, describe

    model, ids = tiny_model(kind), tokens(kind, 2, 6)
    subject = Subject("tiny", model, None, describe(model))
    experts = (0, 3, 5)
    plan = Plan(mode, tuple((1, expert) for expert in experts))
    with torch.inference_mode():
        with intervened(subject, [plan]) as session:
            session.rows = torch.zeros(2, dtype=torch.int64)
            expected = model(ids).logits
        with sparse(subject, plan_of(SkippedExperts(1, experts, mode))) as session:
            torch.testing.assert_close(model(ids).logits, expected, **CLOSE)
    assert (session.counts.rules()[0].sparsity > 0) == (mode != "mask")


@pytest.mark.parametrize("rule", ["threshold", "top_k"])
def test_inputs_are_masked_before_each_projection(rule):
    """By hand, with hooks on the model's own modules."""
    model, ids = random_model(configuration("llama")), tokens("llama", 1, 8)
    mlp = model.model.layers[0].mlp
    if rule == "threshold":
        rules = [
            InputThreshold(0, "up", torch.tensor(0.5)),
            InputThreshold(0, "down", torch.tensor(0.1)),
        ]
    else:
        rules = [InputTopK(0, "up", 10), InputTopK(0, "down", 20)]

    def mask(limit, kept):
        def hook(module, arguments):
            x = arguments[0]
            if rule == "threshold":
                return (x * (x.abs() > limit),)
            cut = x.abs().sort(dim=-1, descending=True).values[..., kept - 1 : kept]
            return (x * (x.abs() >= cut),)

        return hook

    with torch.inference_mode():
        with sparse(model, plan_of(*rules)):
            got = model(ids).logits
        mlp.up_proj.register_forward_pre_hook(mask(0.5, 10))
        mlp.down_proj.register_forward_pre_hook(mask(0.1, 20))
        torch.testing.assert_close(got, model(ids).logits, **CLOSE)


def test_neurons_below_their_threshold_are_zero():
    model, ids = random_model(configuration("llama")), tokens("llama", 1, 8)
    mlp = model.model.layers[1].mlp
    with torch.inference_mode():
        with sparse(model, plan_of(NeuronThreshold(1, "dense", torch.tensor(0.2)))):
            got = model(ids).logits
        mlp.act_fn.register_forward_hook(lambda m, a, output: output * (output.abs() > 0.2))
        torch.testing.assert_close(got, model(ids).logits, **CLOSE)


def test_a_cut_gate_replaces_the_activation():
    model, ids = random_model(configuration("llama")), tokens("llama", 1, 8)
    with torch.inference_mode():
        with sparse(model, plan_of(GateCutoff(0, "dense", "relu"))):
            got = model(ids).logits
        model.model.layers[0].mlp.act_fn = torch.nn.ReLU()
        torch.testing.assert_close(got, model(ids).logits, **CLOSE)


def test_a_skipped_expert_by_ratio_has_no_weight():
    model, ids = random_model(configuration("mixtral")), tokens("mixtral", 1, 8)
    router = model.model.layers[1].mlp.gate

    def cut(module, arguments, output):
        logits, weights, indices = output
        return logits, weights * (weights >= 0.3 * weights.amax(-1, keepdim=True)), indices

    with torch.inference_mode():
        with sparse(model, plan_of(ExpertRatio(1, 0.3))) as session:
            got = model(ids).logits
        router.register_forward_hook(cut)
        torch.testing.assert_close(got, model(ids).logits, **CLOSE)
    share = session.counts.rules()[0].sparsity
    assert 0 < share < 0.5
    assert session.counts.total("prefill").sparsity == pytest.approx(share)


@pytest.mark.parametrize("kind", DECODERS)
def test_a_skipped_weight_is_not_read(kind):
    """NaN in weights of channels, neurons, heads and experts that are skipped while decoding."""
    model, ids = random_model(configuration(kind)), tokens(kind, 1, 5)
    found, groups = linears(model)[1], mlps(model)[1]
    group = "expert" if "expert" in groups else "dense"
    part, mlp = found["attention_output"], groups[group]
    limit = torch.zeros(mlp.neurons)
    limit[::2] = 1e9
    shape = (mlp.down.experts, mlp.neurons) if mlp.down.experts else (mlp.neurons,)
    high = torch.zeros(part.inputs)
    high[1::2] = 1e9
    rules = [
        InputThreshold(1, "attention_output", high),
        NeuronThreshold(1, group, limit.expand(shape).contiguous()),
    ]
    with torch.inference_mode():
        with sparse(model, plan_of(*rules)):
            expected = model(ids).logits
        part.weight[:, 1::2] = float("nan")
        mlp.down.weight[..., ::2] = float("nan")
        if mlp.gate is not None:
            mlp.up.weight[..., ::2, :] = float("nan")
        with sparse(model, plan_of(*rules)):
            assert torch.equal(model(ids).logits, expected)
        with sparse(model, plan_of(*rules), "reference"):
            assert model(ids).logits.isnan().any()


def test_a_skipped_expert_is_not_run():
    model, ids = random_model(configuration("mixtral")), tokens("mixtral", 1, 5)
    plan = plan_of(SkippedExperts(1, (2, 3, 4), "zero"))
    with torch.inference_mode():
        with sparse(model, plan):
            expected = model(ids).logits
        model.model.layers[1].mlp.experts.down_proj[2:5] = float("nan")
        with sparse(model, plan):
            assert torch.equal(model(ids).logits, expected)


def test_packed_rows_are_not_read_at_a_prefill():
    model, ids = random_model(configuration("llama")), tokens("llama", 2, 14)
    plan = plan_of(KeptNeurons(0, "dense", (3, 4)), KeptHeads(1, (0,)))
    with torch.inference_mode():
        with sparse(model, plan) as session:
            expected = model(ids).logits
        mlp, attention = model.model.layers[0].mlp, model.model.layers[1].self_attn
        mlp.gate_proj.weight[5:] = float("nan")
        mlp.down_proj.weight[:, 5:] = float("nan")
        attention.o_proj.weight[:, 8:] = float("nan")
        attention.q_proj.weight[8:] = float("nan")
        attention.v_proj.weight[8:] = float("nan")
        with sparse(model, plan):
            assert torch.equal(model(ids).logits, expected)
    assert 0 < session.copied_bytes < 0.3 * sum(w.nbytes for w in model.parameters())


@pytest.mark.parametrize("rule", ["kept", "threshold", "kept, hooked", "threshold, counted"])
def test_an_mlp_takes_one_call_where_nobody_looks_inside(rule, monkeypatch):
    """Hooked or not: the same numbers. Who hooks the activation function sees what it makes."""
    called, seen = [], []

    def noting(name):
        own = getattr(Cpu, name)

        def noted(self, *given, **options):
            called.append(name)
            return own(self, *given, **options)

        return noted

    for name in ("input_sparse", "output_sparse", "sparse_mlp", "whole_mlp"):
        monkeypatch.setattr(Cpu, name, noting(name))
    model, ids = random_model(configuration("llama")), tokens("llama", 1, 5)
    if "kept" in rule:
        plan = plan_of(*(KeptNeurons(layer, "dense", (1, 2, 9)) for layer in (0, 1)))
    else:
        plan = plan_of(*(NeuronThreshold(n, "dense", torch.tensor(0.1)) for n in (0, 1)))
    with torch.inference_mode():
        with sparse(model, plan, "reference"):
            expected = model(ids).logits
        if "hooked" in rule:
            for block in model.model.layers:
                block.mlp.act_fn.register_forward_hook(lambda m, x, y: seen.append(y.shape))
        with sparse(model, plan, count="counted" in rule):
            torch.testing.assert_close(model(ids).logits, expected, **CLOSE)
    own = ["output_sparse", "sparse_mlp"] if "hooked" in rule else ["whole_mlp"]
    assert sorted(called) == sorted(own * 2 + ["input_sparse"] * (2 * 4 + 1))  # and the output
    assert len(seen) == (2 if "hooked" in rule else 0)


@pytest.mark.parametrize(
    ("kind", "group", "names"),
    [
        ("phi3", "dense", {"whole_mlp"}),
        ("gpt_neox", "dense", {"whole_mlp"}),
        ("gemma2", "dense", {"whole_mlp"}),
        ("mixtral", "expert", {"whole_mlp"}),
        ("gpt2", "dense", {"sparse_mlp"}),  # its weights lie by inputs; its function is one known
        ("bert", "dense", set()),  # another module reads the neurons
        ("gpt_oss", "expert", {"output_sparse"}),  # neurons are no product
    ],
)
def test_mlps_of_other_families_in_one_call(kind, group, names, monkeypatch):
    called = set()
    for name in ("output_sparse", "sparse_mlp", "whole_mlp"):
        own = getattr(Cpu, name)

        def noted(self, *given, own=own, name=name, **options):
            called.add(name)
            return own(self, *given, **options)

        monkeypatch.setattr(Cpu, name, noted)
    changes = {"activation_function": "gelu"} if kind == "gpt2" else {}
    model, ids = random_model(configuration(kind, **changes)), tokens(kind, 1, 5)
    plan = plan_of(NeuronThreshold(0, group, torch.tensor(0.02)))
    with torch.inference_mode(), sparse(model, plan, count=False):
        model(ids)
    assert called == names


@pytest.mark.parametrize("count", [True, False])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("rule", ["threshold", "kept"])
def test_who_changes_what_an_activation_function_sees_or_says_is_heard(rule, before, count):
    """As an intervention that adjusts neurons does."""
    model, ids = random_model(configuration("llama")), tokens("llama", 1, 5)
    act = model.model.layers[0].mlp.act_fn
    rules = {
        "threshold": NeuronThreshold(0, "dense", torch.tensor(0.05)),
        "kept": KeptNeurons(0, "dense", tuple(range(40))),
    }
    logits = []
    with torch.inference_mode():
        with sparse(model, plan_of(rules[rule])):
            untouched = model(ids).logits
        if before:
            act.register_forward_pre_hook(lambda m, given: (given[0] + 1,))
        else:
            act.register_forward_hook(lambda m, given, output: 2 * output)
        for backend in BACKENDS:
            with sparse(model, plan_of(rules[rule]), backend, count=count):
                logits.append(model(ids).logits)
    torch.testing.assert_close(*logits, **CLOSE)
    assert (logits[0] - untouched).abs().max() > 0.01


def test_a_forward_that_somebody_replaced_is_run():
    model, ids = random_model(configuration("llama")), tokens("llama", 1, 5)
    act, called = model.model.layers[0].mlp.act_fn, []
    act.forward = lambda x: called.append(x) or torch.nn.functional.silu(x)
    with torch.inference_mode(), sparse(model, plan_of(KeptNeurons(0, "dense", (1, 2)))):
        model(ids)
    assert len(called) == 1


@pytest.mark.parametrize("name", ["gelu_python", "gelu_python_tanh", "gelu_new", "quick_gelu"])
def test_functions_of_many_steps_are_left_to_the_model(name):
    model, ids = random_model(configuration("llama", hidden_act=name)), tokens("llama", 1, 5)
    plan = plan_of(KeptNeurons(0, "dense", tuple(range(40))))
    called, act = [], model.model.layers[0].mlp.act_fn
    own = type(act).forward
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch, sparse(model, plan):
        patch.setattr(type(act), "forward", lambda self, x: called.append(x) or own(self, x))
        model(ids)
    assert len(called) == 2  # of a layer with the rule and of one without


@pytest.mark.parametrize("kind", ["llama", "gemma2", "bert", "gpt_neox", "phi3", "mixtral"])
def test_to_count_changes_no_bit(kind):
    model, ids = tiny_model(kind), tokens(kind, 1, 5)
    group = "expert" if kind == "mixtral" else "dense"
    plan = plan_of(*(NeuronThreshold(layer, group, torch.tensor(0.02)) for layer in (0, 1)))
    outputs = []
    with torch.inference_mode():
        for count in (False, True):
            with sparse(model, plan, count=count) as session:
                outputs.append(model(ids).logits)
    assert torch.equal(*outputs)
    assert 0 < session.counts.rules()[0].sparsity < 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "name"), KNOWN.items(), ids=str)
def test_kernels_know_activation_functions_by_their_class(kind, name, dtype):
    x = torch.linspace(-9, 9, 1001).to(dtype)
    torch.testing.assert_close(kind()(x), ACTIVATIONS[name](x), rtol=0, atol=0)


@pytest.mark.parametrize("count", [True, False])
def test_chosen_neurons_with_exactly_k_inputs(count):
    """Inputs of the up projection are chosen anew where the gate chooses its outputs too."""
    model, ids = tiny_model("llama"), tokens("llama", 1, 5)
    rules = NeuronThreshold(0, "dense", torch.tensor(0.2)), InputTopK(0, "up", 7)
    with torch.inference_mode():
        with sparse(model, plan_of(*rules), "reference"):
            expected = model(ids).logits
        with sparse(model, plan_of(*rules), count=count):
            torch.testing.assert_close(model(ids).logits, expected, **CLOSE)


def test_nothing_is_kept():
    """No neuron and no head at all: the residual goes through."""
    model, ids = tiny_model("llama"), tokens("llama", 1, 5)
    rules = [KeptNeurons(layer, "dense", ()) for layer in (0, 1)]
    rules += [KeptHeads(layer, ()) for layer in (0, 1)]
    with torch.inference_mode():
        embedded = model.model.norm(model.model.embed_tokens(ids))
        for backend in BACKENDS:
            with sparse(model, plan_of(*rules), backend):
                torch.testing.assert_close(model(ids).logits, model.lm_head(embedded))


def test_whole_matrices_take_no_more_memory():
    model = random_model(configuration("llama"))
    own = model.model.layers[0].mlp.down_proj.weight
    with sparse(model, plan_for("llama", "input_threshold")) as session:
        assert session.copied_bytes == 0
        assert model.model.layers[0].mlp.down_proj.weight is own
        assert own.T.is_contiguous()
    fused = random_model(configuration("phi3"))
    with sparse(fused, plan_for("phi3", "input_threshold")) as session:
        matrices = [layer.self_attn.qkv_proj for layer in fused.model.layers]
        matrices += [layer.mlp.gate_up_proj for layer in fused.model.layers]
        assert session.copied_bytes == sum(m.weight.nbytes for m in matrices)


@pytest.mark.parametrize(
    "rule", [NeuronThreshold(0, "dense", torch.tensor(0.1)), KeptNeurons(0, "dense", (1, 2))]
)
def test_weights_that_lie_right_or_are_not_read_stay_as_they_are(rule):
    model = random_model(configuration("llama"))
    mlp = model.model.layers[0].mlp
    before = mlp.up_proj.weight.data_ptr()
    with sparse(model, plan_of(rule)) as session:
        assert mlp.up_proj.weight.data_ptr() == before and mlp.up_proj.weight.is_contiguous()
        packed = isinstance(rule, KeptNeurons)
        assert mlp.gate_proj.weight.is_contiguous()
        assert mlp.down_proj.weight.is_contiguous() == packed
        assert session.copied_bytes == (3 * 2 * 32 * 4 if packed else 0)
