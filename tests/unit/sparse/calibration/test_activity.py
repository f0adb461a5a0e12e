"""Reductions of activity: exact, of the tokens that count only."""

import pytest
import torch

from lmri.errors import SparseError
from lmri.sparse.calibration import Score

INPUT = Score((1, "attention"), lambda look: look.input.abs())
NEURONS = Score((1, "expert"), lambda look: look.neurons)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9])
def test_thresholds_skip_exactly_the_share(reading, collected, share):
    activity = reading("llama")
    values = collected(activity, INPUT)
    threshold = activity.order_statistics({"x": INPUT}, {"x": share})["x"]
    least = activity.least_kept({"x": INPUT}, {"x": share})["x"]
    count = int(share * values.numel() + 1e-9)
    assert (values <= threshold).sum() == count == (values < least).sum()


def test_padding_and_the_composition_of_batches_change_nothing(reading):
    scores, shares = {"x": INPUT}, {"x": 0.5}
    alone = reading("llama", batch_tokens=1)  # one text a pass: no padding
    together = reading("llama", batch_tokens=4096)
    assert any(not batch.real.all() for batch in together.batches())
    assert alone.tokens == together.tokens
    torch.testing.assert_close(
        alone.order_statistics(scores, shares)["x"], together.order_statistics(scores, shares)["x"]
    )


def test_padding_of_an_encoder_is_masked(reading, collected):
    alone, together = reading("bert", batch_tokens=1), reading("bert", batch_tokens=4096)
    first, second = (collected(own, INPUT).sort(0).values for own in (alone, together))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_the_first_tokens_are_left_out(reading, collected):
    activity = reading("llama", left_out=3)
    assert activity.tokens == sum(len(own) - 3 for own in activity.texts.tokens)
    assert len(collected(activity, INPUT)) == activity.tokens
    counted = [batch.counted[:, :3].any() for batch in activity.batches()]
    assert not any(counted)


def test_mean_squares_of_experts_are_over_their_own_tokens(reading, collected):
    activity = reading("qwen3_moe", texts=3)
    means = activity.mean_squares({"h": NEURONS})["h"]
    rows = collected(activity, NEURONS).double().square()
    ids = collected(activity, Score(NEURONS.site, lambda look: look.experts))
    for expert in range(8):
        own = rows[ids == expert] if (ids == expert).any() else rows
        torch.testing.assert_close(means[expert], own.mean(0))


def test_an_expert_without_a_token_has_the_mean_of_all_pairs(reading, collected):
    activity = reading("mixtral", texts=1, lengths=(3, 4), least_tokens=1)  # 2 tokens, 8 experts
    ids = collected(activity, Score(NEURONS.site, lambda look: look.experts))
    unused = sorted(set(range(8)) - set(ids.tolist()))
    assert unused
    rows = collected(activity, NEURONS).double().square()
    means = activity.mean_squares({"h": NEURONS})["h"]
    torch.testing.assert_close(means[unused[0]], rows.mean(0))


def test_too_few_tokens_are_refused(reading):
    with pytest.raises(SparseError, match=r"at least 256 tokens.*Got \d+ in 12 trials"):
        reading("llama", least_tokens=256)


def test_a_site_that_the_subject_lacks_is_refused(reading):
    score = Score((0, "expert"), lambda look: look.neurons)
    with pytest.raises(SparseError, match="has no 'expert' in layer 0"):
        reading("llama").order_statistics({"x": score}, {"x": 0.5})
