"""Tests of towers.metrics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towers.metrics import evaluate_retrieval
from transform.errors import TandemError


def one_dimension(scores):
    """A query and items whose inner products are exactly these scores."""
    return np.ones((1, 1), np.float32), np.array(scores, np.float32)[:, np.newaxis]


def evaluate(scores, targets, excluded=None, ks=(1, 2, 3)):
    queries, items = one_dimension(scores)
    out = None if excluded is None else [np.array(excluded)]
    return evaluate_retrieval(queries, items, [np.array(targets)], out, ks=ks)


def test_several_positives():
    # Order by score: items 2, 0, 3, 1. Targets 0 and 1 are at ranks 2 and 4.
    result = evaluate([5.0, 1.0, 9.0, 3.0], [0, 1], ks=(1, 2, 4))
    assert [float(result.recall[k][0]) for k in (1, 2, 4)] == [0.0, 0.5, 1.0]
    assert result.mrr[0] == 0.5
    best = 1 / np.log2(2) + 1 / np.log2(3)
    assert result.ndcg[2][0] == pytest.approx((1 / np.log2(3)) / best)
    assert result.ndcg[4][0] == pytest.approx((1 / np.log2(3) + 1 / np.log2(5)) / best)


def test_recall_divides_by_what_can_be_found():
    # Three targets, but only one fits into the first place: finding it is a recall@1 of 1.
    assert evaluate([3.0, 2.0, 1.0], [0, 1, 2]).recall[1][0] == 1.0


def test_equal_scores_rank_in_item_order():
    # All equal: item 2 is third. Negative control: rank 1 ("nothing scores higher") would flatter the model.
    result = evaluate([1.0, 1.0, 1.0], [2])
    assert [float(result.recall[k][0]) for k in (1, 2, 3)] == [0.0, 0.0, 1.0]
    assert result.mrr[0] == pytest.approx(1 / 3)


def test_excluded_items_are_no_candidates_unless_they_are_targets():
    assert evaluate([9.0, 1.0, 5.0], [1], excluded=[0, 2]).recall[1][0] == 1.0
    assert evaluate([9.0, 1.0, 5.0], [1]).recall[1][0] == 0.0  # negative control: they count otherwise
    assert evaluate([9.0, 1.0, 5.0], [0], excluded=[0, 2]).recall[1][0] == 1.0


def test_target_outside_the_corpus_is_a_miss():
    result = evaluate([9.0, 1.0], [0, -1])
    assert result.recall[2][0] == 0.5 and result.mrr[0] == 1.0
    assert evaluate([9.0, 1.0], [-1]).mrr[0] == 0.0


def test_bonus_is_added_to_the_scores_of_its_items():
    queries, items = one_dimension([5.0, 1.0, 9.0])

    def first(bonus):
        added = [(np.array([1]), np.array([bonus]))]
        return evaluate_retrieval(queries, items, [np.array([1])], bonus=added, ks=(1,)).recall[1][0]

    assert (first(8.5), first(7.5)) == (1.0, 0.0)


def test_query_without_targets_is_refused():
    with pytest.raises(TandemError, match="without targets"):
        evaluate([1.0], [])
    with pytest.raises(TandemError, match="expected one a query"):
        evaluate_retrieval(np.ones((2, 1)), np.ones((3, 1)), [np.array([0])])


def oracle(scores, targets, excluded, k):
    """Sorts everything, item by item, in plain Python."""
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], item))
    order = [item for item in order if item not in set(excluded) - set(targets)]
    hits = [1.0 if item in targets else 0.0 for item in order]
    best = sum(1 / np.log2(rank + 2) for rank in range(min(k, len(targets))))
    first = hits.index(1.0) + 1
    gain = sum(hit / np.log2(rank + 2) for rank, hit in enumerate(hits[:k]))
    return sum(hits[:k]) / min(k, len(targets)), gain / best, 1 / first


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_agrees_with_sorting_everything(data):
    items = data.draw(st.integers(2, 12))
    scores = data.draw(st.lists(st.integers(-3, 3), min_size=items, max_size=items))  # many ties
    pick = st.lists(st.integers(0, items - 1), unique=True)
    targets = sorted({data.draw(st.integers(0, items - 1)), *data.draw(pick)})
    excluded = sorted(data.draw(pick))
    k = data.draw(st.integers(1, items + 2))
    result = evaluate(scores, targets, np.array(excluded, int), ks=(k,))
    recall, ndcg, mrr = oracle(scores, targets, excluded, k)
    assert result.recall[k][0] == pytest.approx(recall)
    assert result.ndcg[k][0] == pytest.approx(ndcg)
    assert result.mrr[0] == pytest.approx(mrr)


def test_blocks_do_not_change_the_result():
    random = np.random.default_rng(3)
    queries, items = random.normal(size=(7, 4)), random.normal(size=(30, 4))
    targets = [random.choice(30, 3, replace=False) for _ in range(7)]
    whole = evaluate_retrieval(queries, items, targets, block=100)
    blocks = evaluate_retrieval(queries, items, targets, block=2)
    np.testing.assert_array_equal(whole.mrr, blocks.mrr)
    assert whole.means() == blocks.means()
