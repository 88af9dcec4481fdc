"""The time plan of a warm start: what is new, what is old, and what lies before it all."""

import pytest

from transform.settings import DataSettings
from transform.window import Previous, plan_window


def plan(shop, previous, **data):
    settings = DataSettings(dataset=str(shop), holdout_days=2, **data)
    return plan_window(settings, -1, previous)


def test_what_lies_before_the_first_window_never_becomes_new(shop):
    """The push has learnt from span 2 alone; span 1 lay before its window."""
    first = plan_window(DataSettings(dataset=str(shop), holdout_days=2, window_spans=1), 2)
    assert first.target_spans == (2,)
    warm = plan(shop, Previous(1, first.cut, first.target_spans))
    assert warm.target_spans == (2, 3)
    assert warm.role(1, first.cut - 1e6) == "old"
    assert plan(shop, Previous(1, first.cut, (2,)), window_spans=2).role(1, first.cut - 1e6) == "past"


def test_a_span_that_came_late_is_new_whatever_its_times(shop):
    whole = plan(shop, None)
    late = plan(shop, Previous(1, whole.until + 1.0, (1, 3)))
    assert late.target_spans == (2,)
    assert late.role(2, whole.cut - 10 * 86400.0) == "new"
    assert late.role(1, whole.cut - 20 * 86400.0) == "old"


@pytest.mark.parametrize("sampling", [{}, {"anchor_share": 0, "replay_share": 0}])
def test_the_window_is_read_only_where_something_of_it_is_drawn(shop, sampling):
    first = plan_window(DataSettings(dataset=str(shop), holdout_days=2), 2)
    warm = plan(shop, Previous(1, first.cut, (1, 2)), history_spans=0, **sampling)
    assert warm.spans == ((2, 3) if sampling else (1, 2, 3))
