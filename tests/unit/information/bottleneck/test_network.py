"""Training of many networks as one batch."""

import numpy as np
import pytest
import torch

from lmri.errors import EvidenceError
from lmri.information.bottleneck.network import (
    ACTIVATIONS,
    LAYERS,
    Training,
    first_weights,
    measured_epochs,
    train_networks,
)
from lmri.information.bottleneck.task import make_task

TASK = make_task(0)


def trained(**options):
    asked = {"activation": "tanh", "initialisations": 2, "epochs": 2, "measured": 3, **options}
    return list(train_networks(TASK, Training(**asked)))


def test_training_gives_the_same_bits_again():
    for first, second in zip(trained(), trained(), strict=True):
        assert first.epoch == second.epoch
        for before, now in zip(first.activity, second.activity, strict=True):
            assert before.tobytes() == now.tobytes()


def test_networks_of_a_batch_do_not_know_of_each_other():
    alone, among = trained(initialisations=1)[-1], trained(initialisations=3)[-1]
    for own, others in zip(alone.activity, among.activity, strict=True):
        assert np.allclose(own[0], others[0], atol=1e-5)
        assert not np.allclose(others[0], others[1], atol=1e-2)


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_a_step_is_that_of_a_network_on_its_own(l2):
    """One step on all training inputs, against plain layers and the optimiser of torch."""
    options = Training("relu", l2=l2, initialisations=2, epochs=1, measured=2, batch=4096)
    found = list(train_networks(TASK, options))[-1].activity[-1][1]
    weights, biases = first_weights(options)
    own = [w[1].detach().clone().requires_grad_() for w in weights]
    shifts = [b[1].detach().clone().requires_grad_() for b in biases]

    def logits(inputs):
        for weight, shift in zip(own[:-1], shifts[:-1], strict=True):
            inputs = torch.relu(inputs @ weight + shift)
        return inputs @ own[-1] + shifts[-1]

    optimiser = torch.optim.Adam([*own, *shifts], lr=options.rate)
    inputs, labels = torch.from_numpy(TASK.inputs), torch.from_numpy(TASK.labels)
    loss = torch.nn.functional.cross_entropy(logits(inputs[TASK.training]), labels[TASK.training])
    (loss + l2 / 2 * sum((weight**2).sum() for weight in own[:-1])).backward()
    optimiser.step()
    assert np.allclose(found, logits(inputs).softmax(dim=-1).detach().numpy(), atol=1e-4)


def test_first_weights_are_pairs_across_activations():
    tanh, relu = (first_weights(Training(name, initialisations=2))[0] for name in ("tanh", "relu"))
    for one, other in zip(tanh, relu, strict=True):
        assert torch.equal(2 * one, other)
    assert float(tanh[0].detach().abs().max()) <= 2 / 12**0.5


def test_activity_has_the_layers_and_a_softmax_at_the_end():
    last = trained()[-1]
    assert [own.shape for own in last.activity] == [(2, 4096, w) for w in (10, 7, 5, 4, 3, 2)]
    assert len(LAYERS) == len(last.activity)
    assert np.allclose(last.activity[-1].sum(axis=-1), 1)
    assert last.loss["test"].shape == last.accuracy["training"].shape == (2,)


def test_epochs_are_spread_over_the_logarithm():
    assert measured_epochs(2000, 5) == [0, 1, 13, 159, 2000]
    assert measured_epochs(2, 20) == [0, 1, 2]


def test_the_centred_softplus_is_centred():
    at_zero = {name: float(act(torch.zeros(1))) for name, act in ACTIVATIONS.items()}
    assert {name for name, value in at_zero.items() if abs(value) > 1e-7} == {"softplus"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "gelu"}, "'activation' of bottleneck must be one of"),
        ({"initialisations": 0}, "'initialisations' of bottleneck"),
        ({"epochs": 0}, "'epochs' of bottleneck"),
        ({"l2": -1}, "'l2' of bottleneck"),
        ({"activation": "elu", "rate": 1e38}, "is not finite: lower 'bottleneck.rate'"),
    ],
)
def test_what_cannot_be_trained_is_refused(options, message):
    with pytest.raises(EvidenceError, match=message):
        trained(**options)
