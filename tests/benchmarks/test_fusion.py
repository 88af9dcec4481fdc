"""Two rankings made one, worked out by hand."""

import numpy as np
import pytest

from benchmarks.baselines.fusion import reciprocal_rank, weighted_sum
from benchmarks.baselines.task import Ranking


def ranking(items, scores):
    return Ranking(np.array([items], np.int64), np.array([scores], np.float32))


# Item 7 is second in both lists; 5 and 9 are first in one of them.
WORDS = ranking([5, 7, 3], [12.0, 6.0, 2.0])
VECTORS = ranking([9, 7, -1], [0.9, 0.4, -np.inf])


def test_reciprocal_rank_by_hand():
    fused = reciprocal_rank([WORDS, VECTORS])
    # 7: 2 / 62; 5 and 9: 1 / 61 each, by number; 3: 1 / 63.
    assert fused.items[0, :5].tolist() == [7, 5, 9, 3, -1]
    np.testing.assert_allclose(fused.scores[0, :4], [2 / 62, 1 / 61, 1 / 61, 1 / 63], rtol=1e-6)


def test_weighted_sum_by_hand():
    fused = weighted_sum([WORDS, VECTORS], (0.4, 0.6))
    # Scaled to 0..1: words 5: 1, 7: 0.4, 3: 0; vectors 9: 1, 7: 0.
    assert fused.items[0, :4].tolist() == [9, 5, 7, 3]
    np.testing.assert_allclose(fused.scores[0, :4], [0.6, 0.4, 0.16, 0.0], rtol=1e-6)


@pytest.mark.parametrize(("weights", "first"), [((1.0, 0.0), 5), ((0.0, 1.0), 9)])
def test_all_the_weight_on_one_list_gives_its_order(weights, first):
    assert weighted_sum([WORDS, VECTORS], weights).items[0, 0] == first


def test_an_empty_list_and_a_list_of_one_score_do_no_harm():
    empty = ranking([-1, -1], [-np.inf, -np.inf])
    alike = ranking([4, 2], [3.0, 3.0])
    fused = weighted_sum([empty, alike], (0.5, 0.5))
    assert fused.items[0, :3].tolist() == [2, 4, -1]
    np.testing.assert_allclose(fused.scores[0, :2], [0.5, 0.5])
