"""Known answers: linear networks, conservation of relevance, planted writers, equal runs."""

import numpy as np
import pytest
import torch
from families import FAMILIES, configuration, random_model
from toys import Toy

from lmri.localise.attribution import METHODS, PATCHING, RELP, RULES, sites, traced
from lmri.localise.attribution.methods import Batch, Grid, approximate, patch

CLEAN = torch.tensor([[3, 7, 11, 5, 8, 2], [4, 9, 2, 5, 8, 2]])
CORRUPTED = torch.tensor([[3, 7, 20, 5, 8, 2], [4, 9, 21, 5, 8, 2]])
PAIR = torch.tensor([[6, 1], [12, 17]])
BIAS_FREE = [
    *("deepseek_v2", "deepseek_v3", "gemma2", "gemma3_text", "granitemoe", "llama", "llama4_text"),
    *("mistral", "mixtral", "olmoe", "phi3", "qwen3", "qwen3_moe"),
]


def batch_of(clean=CLEAN, corrupted=CORRUPTED, pair=PAIR, dtype=torch.float64):
    last = torch.zeros(clean.shape, dtype=dtype)
    last[:, -1] = 1
    masks = {"all": torch.ones(clean.shape, dtype=dtype), "prompt_last": last}
    return Batch(np.arange(len(clean)), clean, corrupted, pair, masks)


def grid_of(subject, kind):
    return Grid(kind, tuple(sites(subject, kind)), ("all",))


def effects(tracer, batch, grid, method):
    """Of every cell, as shares of what there is to recover: (batch, cells)."""
    runs = [tracer.run(ids, batch.tokens) for ids in (batch.clean, batch.corrupted)]
    gap = (runs[0].difference - runs[1].difference).double().numpy()[:, None]
    if method in PATCHING:
        cells = range(grid.size)
        return patch(tracer, batch, grid, cells, 16, denoise=PATCHING[method]) / gap
    denoise, noise = approximate(tracer, batch, [grid], method)[0]
    assert (denoise is noise) == (method == "direct")
    return denoise.reshape(len(gap), -1) / gap


@pytest.mark.parametrize("kind", ["head", "neuron", "residual", "attention", "mlp"])
def test_in_a_linear_network_every_method_says_the_same(kind, make_subject):
    subject = make_subject(Toy(linear=True))
    with traced(subject) as tracer:
        batch, grid = batch_of(), grid_of(subject, kind)
        truth = effects(tracer, batch, grid, "patch_denoise")
        assert np.abs(truth).max() > 0.05
        for method in ("patch_noise", "attribution_patching", "relp"):
            found = effects(tracer, batch, grid, method)
            np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-11)


def test_direct_shares_of_all_that_writes_add_up_to_one(make_subject):
    subject = make_subject(Toy(linear=False))
    with traced(subject) as tracer:
        total = sum(
            effects(tracer, batch_of(), grid_of(subject, kind), "direct").sum(1)
            for kind in ("head", "neuron")
        )
    # The last token is the same in both runs, and so is its embedding; but not the scale of the
    # last normalisation, so that its share differs.
    with traced(subject) as tracer:
        batch, point = batch_of(), ("before", 0)
        shares, gaps = [], []
        for ids in (batch.clean, batch.corrupted):
            run = tracer.slopes(ids, batch.tokens, [point], direct=True)
            shares.append((run.values[point] * run.slopes[point])[:, -1].sum(-1))
            gaps.append(run.difference)
    embedding = ((shares[0] - shares[1]) / (gaps[0] - gaps[1])).numpy()
    np.testing.assert_allclose(total + embedding, 1.0, rtol=1e-9)


def test_relevance_is_conserved_exactly_and_the_gradient_is_not(make_subject):
    subject, first = make_subject(Toy(linear=False)), ("before", 0)
    with traced(subject) as tracer:
        plain = tracer.slopes(CLEAN, PAIR, [first])
        ruled = tracer.slopes(CLEAN, PAIR, [first], RELP)
    assert torch.equal(ruled.difference, plain.difference)
    shares = [(run.values[first] * run.slopes[first]).sum((1, 2)) for run in (ruled, plain)]
    torch.testing.assert_close(shares[0], ruled.difference, rtol=1e-12, atol=1e-12)
    assert (shares[1] - plain.difference).abs().min() > 0.1


@pytest.mark.parametrize("kind", BIAS_FREE)
def test_relevance_is_conserved_in_every_architecture_without_biases(kind, subject_of, pair_of):
    subject, (clean, _, pair) = subject_of(kind), pair_of(kind)
    with traced(subject) as tracer:
        run = tracer.slopes(clean, pair, [("before", 0)], RULES)
    total = (run.values["before", 0] * run.slopes["before", 0]).sum((1, 2))
    torch.testing.assert_close(total, run.difference, rtol=1e-3, atol=1e-4)


def without(matrix, direction):
    """Take a direction out of what a matrix (..., hidden) writes."""
    return matrix - (matrix @ direction)[..., None] * direction


def planted(kind):
    """A model in which one unit alone writes the difference of two logits: it and the unit."""
    model = random_model(configuration("mixtral" if kind == "expert" else "llama", **ONE_LAYER))
    block, head = model.model.layers[0], model.lm_head.weight
    with torch.no_grad():
        head[6] = head[1] + torch.randn(32, generator=torch.Generator().manual_seed(1))
        direction = (head[6] - head[1]) * model.model.norm.weight
        direction /= direction.norm()
        embeddings, output = model.model.embed_tokens.weight, block.self_attn.o_proj.weight
        embeddings.copy_(without(embeddings, direction))
        output.copy_(without(output.T, direction).T)
        if kind == "expert":
            down = block.mlp.experts.down_proj  # (experts, hidden, size)
            down.copy_(without(down.transpose(1, 2), direction).transpose(1, 2))
            # Loud enough that rounding is small beside what it writes.
            down[PLANTED[kind]] = direction[:, None] * torch.linspace(-30, 30, 16)
        else:
            down = block.mlp.down_proj.weight
            down.copy_(without(down.T, direction).T)
        if kind == "neuron":
            down[:, PLANTED[kind]] = direction
        if kind == "head":
            output[:, 8:16] = direction[:, None] * torch.linspace(-1, 1, 8)
    return model


PLANTED = {"head": 1, "neuron": 17, "expert": 3}
ONE_LAYER = {"num_hidden_layers": 1}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["head", "neuron", "expert"])
def test_the_only_writer_is_first_by_every_method(kind, method, make_subject):
    subject = make_subject(planted(kind))
    # The planted expert is routed to at 6 and 16, not at 9 and 5.
    clean = torch.tensor([[3, 7, 11, 6], [3, 7, 11, 16]])
    corrupted = torch.tensor([[3, 7, 11, 9], [3, 7, 11, 5]])
    batch = batch_of(clean, corrupted, torch.tensor([[6, 1]] * 2), torch.float32)
    with traced(subject) as tracer:
        found = effects(tracer, batch, grid_of(subject, kind), method)
    assert found.argmax(1).tolist() == [PLANTED[kind]] * 2
    others = np.delete(found, PLANTED[kind], axis=1)
    if method == "direct":
        np.testing.assert_allclose(found[:, PLANTED[kind]], 1, rtol=1e-3)
        assert np.abs(others).max() < 1e-3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["llama", "olmoe"])
def test_equal_runs_have_no_effect(kind, method, subject_of):
    subject = subject_of(kind)
    batch = batch_of(CLEAN, CLEAN, PAIR, torch.float32)
    with traced(subject) as tracer:
        for unit in ("head", "residual"):
            grid = grid_of(subject, unit)
            if method in PATCHING:
                found = patch(tracer, batch, grid, range(grid.size), 8, denoise=PATCHING[method])
            else:
                found = np.stack(approximate(tracer, batch, [grid], method)[0])
            assert not found.any()


@pytest.mark.parametrize("method", METHODS)
def test_the_mean_of_both_directions_turns_its_sign_when_the_trials_are_exchanged(
    method, subject_of, pair_of
):
    subject, (clean, corrupted, pair) = subject_of("olmoe"), pair_of("olmoe")
    means, alone = [], []
    with traced(subject) as tracer:
        grid = grid_of(subject, "expert")
        for ids in ((clean, corrupted), (corrupted, clean)):
            batch = batch_of(*ids, pair, torch.float32)
            if method in PATCHING:
                both = [
                    patch(tracer, batch, grid, range(grid.size), 64, denoise=denoise)
                    for denoise in (True, False)
                ]
            else:
                both = approximate(tracer, batch, [grid], method)[0]
            means.append(sum(both) / 2)
            alone.append(both[0])
    np.testing.assert_allclose(means[0], -means[1], atol=1e-4)
    assert np.abs(means[0]).max() > 1e-2
    if method != "direct":
        assert np.abs(alone[0] + alone[1]).max() > 1e-2, "one direction does not"


def test_patches_do_not_depend_on_the_rows_of_a_pass(subject_of, pair_of):
    subject, (clean, corrupted, pair) = subject_of("olmoe"), pair_of("olmoe")
    batch = batch_of(clean, corrupted, pair, torch.float32)
    with traced(subject) as tracer:
        grid = grid_of(subject, "residual")
        found = [patch(tracer, batch, grid, range(6), rows, denoise=True) for rows in (1, 5, 64)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[0], found[2], atol=1e-5)


def test_the_list_of_architectures_without_biases_is_whole():
    def biased(kind):
        names = [name for name, _ in random_model(configuration(kind)).named_parameters()]
        return any(name.endswith(("bias", "sinks")) for name in names)

    assert {kind for kind in FAMILIES if not biased(kind)} >= set(BIAS_FREE)
