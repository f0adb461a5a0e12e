"""Hidden-dimension flow: known answers on planted residuals."""

import pytest
import torch
from families import configuration, random_model

from lmri.anatomy import blocks
from lmri.errors import SparseError
from lmri.sparse.calibration import hidden_flow

HIDDEN = 32


@pytest.fixture
def planted(reading):
    """Activity of a model whose first block gives what a function makes of (batch, tokens)."""
    handles = []

    def plant(states, **options):
        model = random_model(configuration("llama"))
        hook = blocks(model)[0].register_forward_hook(
            lambda module, given, output: states(*output.shape[:2])
        )
        handles.append(hook)
        return reading("llama", model=model, lengths=(14, 15), batch_tokens=10**6, **options)

    yield plant
    for handle in handles:
        handle.remove()


def of_first(dataset):
    return float(dataset.flow[0]), float(dataset.fixed[0])


def test_dimensions_that_are_always_large_are_all_fixed(planted):
    always = torch.zeros(HIDDEN)
    always[:8] = torch.arange(8) + 1.0
    found = hidden_flow(planted(lambda b, t: always.expand(b, t, HIDDEN)), length=5, share=0.25)
    assert of_first(found) == (0.25, 0.25)
    assert found.attrs["share"] == 0.25


def test_dimensions_that_take_turns_never_stay(planted):
    def turns(batch, tokens):
        states = torch.zeros(batch, tokens, HIDDEN)
        states[:, 0::2, :8] = 1.0
        states[:, 1::2, 8:16] = -1.0
        return states

    assert of_first(hidden_flow(planted(turns), length=2, share=0.25))[0] == 0.0


def test_spells_show_beyond_what_is_fixed(planted):
    def spells(batch, tokens):  # seven tokens one set, seven tokens another
        states = torch.zeros(batch, tokens, HIDDEN)
        states[:, :7, :8] = 1.0
        states[:, 7:, 8:16] = 1.0
        return states

    flow, fixed = of_first(hidden_flow(planted(spells, left_out=0), length=4, share=0.25))
    # 11 places of a window of 4 in 14 tokens, 8 of them within one spell
    assert flow == pytest.approx(8 / 11 * 0.25)
    assert fixed == pytest.approx(16 / 32 * 0.5**4)


def test_independent_tokens_are_as_if_fixed(planted):
    generator = torch.Generator().manual_seed(0)

    def noise(batch, tokens):
        return torch.randn(batch, tokens, HIDDEN, generator=generator)

    found = hidden_flow(planted(noise, texts=400), length=2, share=0.25)
    flow, fixed = of_first(found)
    assert flow == pytest.approx(fixed, abs=0.003) == pytest.approx(0.0625, abs=0.003)
    assert found.attrs["tokens"] == 400 * 12


@pytest.mark.parametrize(("length", "share"), [(0, 0.1), (3, 0.0), (3, 1.0), (14, 0.1)])
def test_what_cannot_be_measured_is_refused(planted, length, share):
    with pytest.raises(SparseError, match="'length' of a flow"):
        hidden_flow(planted(lambda b, t: torch.zeros(b, t, HIDDEN)), length, share)
