"""Order statistics of a stream are those of sorting everything."""

import pytest
import torch

from lmri.errors import SparseError
from lmri.sparse.calibration.selection import Selection, skipped_count


def select(parts, ranks):
    selection = Selection()
    for part in parts:
        selection.count(part)
    selection.seek(ranks)
    for part in reversed(parts):
        selection.refine(part)
    return selection


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e20])
def test_every_rank_is_that_of_sorting(scale):
    values = scale * torch.randn(5000, generator=torch.Generator().manual_seed(0)).abs()
    ranks = [1, 2, 1250, 2500, 4999, 5000]
    selection = select(values.split(700), ranks)
    assert torch.equal(selection.found(), values.sort().values[torch.tensor(ranks) - 1])


def test_the_quantile_of_kthvalue_skips_the_exact_count():
    values = torch.randn(14_336, generator=torch.Generator().manual_seed(1)).abs()
    for share in (0.25, 0.4, 0.5, 0.65, 0.8, 0.9):
        rank = skipped_count(share, 14_336)
        threshold = select([values], [rank]).found()[0]
        assert threshold == values.kthvalue(rank).values
        assert (values <= threshold).sum() == rank


def test_equal_values_zero_and_minus_zero_are_ranked():
    values = torch.tensor([0.0, -0.0, 0.0, 2.0, 2.0, 3.0])
    assert select([values], [1, 3, 4, 5, 6]).found().tolist() == [0, 0, 2, 2, 3]


def test_the_first_pass_alone_is_within_a_hundredth_above():
    values = torch.rand(3000, generator=torch.Generator().manual_seed(0)) + 1e-3
    selection, ranks = select([values], [1]), torch.arange(1, 3001, 37)
    ratio = selection.coarse(ranks.tolist()) / values.sort().values[ranks - 1]
    assert (ratio >= 1).all() and (ratio < 1.008).all()


def test_memory_does_not_grow_with_the_values():
    selection = Selection()
    for _ in range(50):
        selection.count(torch.rand(10_000))
    assert selection.total == 500_000
    assert sum(v.numel() for v in vars(selection).values() if isinstance(v, torch.Tensor)) == 2**15


def test_the_rounding_of_a_product_loses_no_value():
    assert [skipped_count(k / 100, 100) for k in range(100)] == list(range(100))
    assert skipped_count(0.5, 7) == 3 and skipped_count(0.9999999, 10) == 9
    assert skipped_count(0.0, 10) == 0


def test_activity_that_is_not_finite_is_refused():
    with pytest.raises(SparseError, match="must be finite"):
        Selection().count(torch.tensor([1.0, float("nan")]))
