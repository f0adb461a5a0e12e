"""Many plans on the same texts: the same as one after another, and less of it is run."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import FAMILIES, tiny_model, tokens

from lmri.anatomy import Subject, blocks, describe
from lmri.errors import LmriError
from lmri.intervene import (
    INTACT,
    KINDS,
    Combined,
    Plan,
    exact,
    feasible,
    intervened,
    onsets,
    respond,
    same_plans,
    says_exactly,
)
from lmri.intervene.sharing import passes

DECODERS = tuple(kind for kind in FAMILIES if kind != "bert")
EXPERTS = [
    INTACT,
    Plan("mask", ((0, 3), (1, 2))),
    Plan("mask", ((1, 5),)),
    Plan("mask", ((1, 2), (0, 3))),
    Plan("zero", ((1, 5), (1, 1))),
    Plan("force", ((1, 6),)),
]


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


def plans_of(anatomy):
    """Plans on units of every kind, in the first and in the last layer that has any."""
    plans = [INTACT]
    for kind in ("expert", "neuron", "shared_neuron", "head", "residual", "layer"):
        for layer in {
            KINDS[kind].layers(anatomy)[i] for i in (0, -1) if KINDS[kind].layers(anatomy)
        }:
            unit = (layer, *(size - 1 for size in KINDS[kind].shape(anatomy)))
            plan = Plan("mask" if kind == "expert" else "zero", (unit,), kind)
            plans += [plan] if feasible(plan, anatomy) else []
    return plans


def one_by_one(subject, texts, plan):
    """Logits of every text alone under a plan, through all layers."""
    found = []
    with intervened(subject, [plan]):
        for text in texts:
            found.append(subject.model(input_ids=torch.tensor([text]), use_cache=False).logits[0])
    return found


class Counted:
    """Counts the rows that a block is run on."""

    def __init__(self, subject, layer):
        self.rows = 0
        self._hook = blocks(subject.model)[layer].register_forward_hook(self._count)

    def _count(self, block, arguments, output):
        self.rows += len(output[0] if isinstance(output, tuple) else output)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._hook.remove()


@pytest.mark.parametrize("family", DECODERS)
def test_every_family_gives_what_each_plan_gives_alone(family):
    model = tiny_model(family)
    subject = Subject(family, model, None, describe(model))
    texts = [*tokens(family).tolist(), *tokens(family, 2, 9).tolist()]
    plans, kept = plans_of(subject.anatomy), [1, 3, 3, 2, 1]
    seen = set()
    with Counted(subject, 0) as first:
        for passed in list(passes(subject, texts, [9] * 5, kept, plans, rows=4)):
            for plan, text, got in zip(passed.plans, passed.texts, passed.logits, strict=True):
                wanted = one_by_one(subject, [texts[text]], plans[plan])[0]
                last = kept[text]
                torch.testing.assert_close(got[-last:], wanted[-last:], rtol=1e-4, atol=1e-4)
                seen.add((int(plan), int(text)))
    assert len(seen) == len(plans) * len(texts)
    assert first.rows > 0


def test_plans_together_and_in_a_phase_only_act_as_they_do_alone(tiny_subject, prompts):
    heads, experts = Plan("zero", ((1, 2),), "head"), Plan("mask", ((1, 5),), phase="response")
    void = Plan.of("void", [(1,)], "layer", {(1,): [0.5]})
    plans = [
        experts,
        Plan("mask", ((1, 5),), phase="prompt"),
        Plan("zero", ((0, 1), (1, 3)), phase="prompt_last"),
        Combined((experts, heads)),
        Combined((heads, experts)),
        void,
    ]
    assert same_plans(plans).tolist() == list(range(6))
    count = len(prompts)
    references = [[5 + i, 2, 7][: 1 + i % 3] for i in range(count)]
    watched = [5] * count
    _, margins = onsets(tiny_subject, prompts, watched, plans, rows=16)
    said = exact(tiny_subject, prompts, references, plans, rows=16)
    for number, plan in enumerate(plans):
        alone = respond(tiny_subject, prompts, watched, plans=[plan], max_new_tokens=1, rows=16)
        np.testing.assert_allclose(margins[number], alone.onset_margin, atol=1e-4)
        own = [[*row[:1], 2] for row in alone.tokens]
        for asked, got in ((references, said), (own, exact(tiny_subject, prompts, own, plans, 16))):
            wanted = says_exactly(
                *(tiny_subject, prompts, asked),
                plans=[plan],
                plan_of_row=[0] * count,
                rows=16,
            )
            np.testing.assert_array_equal(got[number], wanted)
    assert abs(margins[1] - margins[0]).max() > 1e-3


def test_plans_of_the_last_layer_run_the_first_once_for_each_text(tiny_subject, prompts):
    plans = [Plan("mask", ((1, expert),)) for expert in range(6)]
    with Counted(tiny_subject, 0) as first, Counted(tiny_subject, 1) as last:
        onsets(tiny_subject, prompts, [5] * len(prompts), plans, rows=64)
    assert last.rows >= len(plans) * len(prompts)
    # Once as they are, a row of each pass, and the trial of both layers.
    assert first.rows < 2 * len(prompts)


def test_bits_are_those_of_all_layers_where_products_have_many_rows(tiny_subject, prompts):
    rng = np.random.default_rng(0)
    # Each four times: an expert that runs on few rows runs on four, fewer are rounded otherwise.
    texts = [rng.permutation(prompts[i % 10]).tolist() for i in range(40)] * 4
    watched = [5] * len(texts)
    first, margins = onsets(tiny_subject, texts, watched, EXPERTS, rows=1024)
    for number, plan in enumerate(EXPERTS):
        alone = respond(tiny_subject, texts, watched, plans=[plan], max_new_tokens=1, rows=1024)
        np.testing.assert_array_equal(margins[number], alone.onset_margin)
        np.testing.assert_array_equal(first[number], [row[0] for row in alone.tokens])
    assert (margins[1] != margins[0]).any()
    assert (margins[4] != margins[0]).any()


def test_plans_that_do_the_same_are_run_once(tiny_subject, prompts):
    assert same_plans(EXPERTS).tolist() == [0, 1, 2, 1, 4, 5]
    values = {(0, 1): [1.0], (0, 2): [2.0]}
    gains = [Plan.of("gain", units, "neuron", values) for units in ([(0, 1)], [(0, 2)], [])]
    others = [Plan("zero", ((0, 1),), "neuron"), Plan("mask", (), "expert")]
    assert same_plans([*gains, *others]).tolist() == [0, 1, 2, 3, 2]
    seen = [
        passed.plans for passed in passes(tiny_subject, prompts, [1] * 15, [1] * 15, EXPERTS, 64)
    ]
    assert np.unique(np.concatenate(seen)).tolist() == [0, 1, 2, 4, 5]


def test_a_model_whose_later_blocks_read_the_tokens_runs_all_layers(tiny_subject, prompts):
    # As in models that add an embedding of every token in every layer.
    model, held = tiny_subject.model, {}
    embeddings = torch.randn(len(tiny_subject.tokenizer), 32, generator=torch.manual_seed(0))

    def hold(module, arguments, options):
        held["ids"] = options["input_ids"]

    def add(block, arguments, output):
        return output + embeddings[held["ids"]]

    hooks = [
        model.register_forward_pre_hook(hold, with_kwargs=True),
        blocks(model)[1].register_forward_hook(add),
    ]
    try:
        watched = [5] * len(prompts)
        _, margins = onsets(tiny_subject, prompts, watched, EXPERTS, rows=64)
        for number, plan in enumerate(EXPERTS):
            alone = respond(tiny_subject, prompts, watched, plans=[plan], max_new_tokens=1, rows=64)
            np.testing.assert_allclose(margins[number], alone.onset_margin, atol=1e-4)
    finally:
        for hook in hooks:
            hook.remove()


def test_modules_are_as_before_also_after_an_error(tiny_subject, prompts):
    wrong = [*EXPERTS, Plan("mask", ((1, 99),))]
    before = [hooks_of(module) for module in tiny_subject.model.modules()]
    with pytest.raises(LmriError, match="expert 99"):
        onsets(tiny_subject, prompts, [5] * len(prompts), wrong, rows=64)
    for module in tiny_subject.model.modules():
        assert "forward" not in vars(module)
    assert [hooks_of(module) for module in tiny_subject.model.modules()] == before


def hooks_of(module):
    """Hooks of a module: transformers leaves some of its own on a model that others used."""
    return [*module._forward_hooks, *module._forward_pre_hooks]


def acting_together(anatomy):
    """Plans of one phase, of several parts, and such that need what was before their layer."""
    last = anatomy.layers - 1
    site = (last, len(anatomy.places) - 1)
    hidden = [0.3] * anatomy.hidden
    parts = [
        Plan("zero", ((last, 1),), "head", phase="prompt"),
        Plan("zero", ((last, 2),), "head", phase="response"),
        Plan.of("add", [site], "residual_site", {site: hidden}, "prompt_last"),
    ]
    layers = [(layer,) for layer in range(anatomy.layers)]
    plans = [
        INTACT,
        *parts,
        Combined(tuple(parts)),
        Combined((parts[1], Plan("flip", ((0,),), "layer"))),
    ]
    plans.append(Plan.of("void", layers[1:], "layer", {layer: [0.8] for layer in layers}))
    if anatomy.moe_layers:
        expert = (anatomy.moe_layers[-1], 1)
        plans += [Plan("mask", (expert,), phase=phase) for phase in ("prompt", "response")]
        plans.append(Plan.of("gain", [expert], "expert", {expert: [2.0]}))
    return [plan for plan in plans if feasible(plan, anatomy)]


@pytest.mark.parametrize("family", ["llama", "gpt2", "olmoe", "deepseek_v3", "qwen2_moe"])
def test_phases_and_parts_are_those_of_a_pass_through_all_layers(family):
    model = tiny_model(family)
    subject = Subject(family, model, SimpleNamespace(eos_token_id=127), describe(model))
    texts, n_prompt = tokens(family).tolist(), 9
    plans = acting_together(subject.anatomy)
    kept = [len(text) - n_prompt + 1 for text in texts]
    seen = 0
    prompts = [n_prompt] * len(texts)
    for passed in list(passes(subject, texts, prompts, kept, plans, rows=64)):
        for plan, text, logits in zip(passed.plans, passed.texts, passed.logits, strict=True):
            seen += 1
            wanted = forced(subject, texts[text], plans[plan], n_prompt)[-kept[text] :]
            torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
    assert seen == len(plans) * len(texts)


def forced(subject, text, plan, n_prompt):
    """Logits of a text alone under a plan that knows where the response begins."""
    with intervened(subject, [plan]) as session:
        session.prompts = torch.tensor([n_prompt])
        return subject.model(input_ids=torch.tensor([text]), use_cache=False).logits[0]


def test_plans_of_the_same_parts_are_the_same():
    first, second = Plan("zero", ((0, 1), (0, 2)), "head"), Plan("mask", ((1, 0),))
    plans = [
        Combined((first, second)),
        Combined((Plan("zero", ((0, 2), (0, 1)), "head"), INTACT, second)),
        first,
        Combined((first,)),
        Combined(()),
        INTACT,
        Plan("zero", ((0, 1), (0, 2)), "head", phase="prompt"),
        Combined((second, first)),
    ]
    assert same_plans(plans).tolist() == [0, 0, 2, 2, 4, 4, 6, 7]
