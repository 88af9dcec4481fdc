"""Replay and anchors: what is kept out of training stays out, and what is learnt again is drawn as declared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transform.test_requests import CUT, DAY, RULES, WINDOW, events
from transform.requests import ANCHOR, REPLAY, Event, requests_of
from transform.sampling import Sampling

MANY = 20_000


def share(test):
    return sum(test(f"u{n}") for n in range(MANY)) / MANY


def test_shares_are_as_declared():
    sampling = Sampling(0.1, 0.4, 10.0, 2.0)

    def replayed(days, tail_share=0.0, cut=5.0):
        return lambda user: sampling.is_replayed(user, 1.5, "", days, tail_share, cut)

    assert share(lambda user: sampling.is_anchor(user, 1.5, "")) == pytest.approx(0.1, abs=0.01)
    assert share(replayed(0.0)) == pytest.approx(0.4, abs=0.015)
    assert share(replayed(10.0)) == pytest.approx(0.2, abs=0.015)
    assert share(replayed(20.0)) == pytest.approx(0.1, abs=0.015)
    assert share(replayed(10.0, tail_share=1.0)) == pytest.approx(0.4, abs=0.015)
    assert share(replayed(10.0, tail_share=0.5)) == pytest.approx(0.3, abs=0.015)
    again, other = replayed(0.0), replayed(0.0, cut=6.0)
    # The next run draws anew: both keep 0.4 * 0.4 of them, and not the same 0.4.
    assert share(lambda user: again(user) and other(user)) == pytest.approx(0.16, abs=0.015)


def made(some_events, sampling, window=WINDOW, user="u"):
    return list(requests_of(user, some_events, window, RULES._replace(sampling=sampling)))


def moments(requests, view):
    return {(r.timestamp, r.query, r.context) for r in requests if r.view == view}


@given(events, st.floats(0, 1))
def test_an_anchor_is_never_learnt_in_any_run(some_events, anchor_share):
    sampling = Sampling(anchor_share=anchor_share, replay_share=1.0)
    earlier = WINDOW._replace(cut=40.0 * DAY)
    now, before = (made(some_events, sampling, window) for window in (WINDOW, earlier))
    anchors = moments(now, ANCHOR)
    for requests in (now, before):
        assert not anchors & (moments(requests, "") | moments(requests, REPLAY))
    assert moments(before, ANCHOR) <= anchors


@given(events)
def test_every_old_moment_is_learnt_again_at_share_one_and_none_at_zero(some_events):
    def learnt(role):
        return {
            (e.timestamp, e.query, e.context)
            for e in some_events
            if e.role == role and e.event_type in RULES.event_types and e.timestamp < WINDOW.cut
        }

    forever = Sampling(replay_share=1.0, replay_half_life_days=1e9)
    new, old = learnt("new"), learnt("old")
    assert moments(made(some_events, forever), REPLAY) == old - new
    assert moments(made(some_events, forever), "") - {m for m in new} == set()
    assert not moments(made(some_events, Sampling()), REPLAY)


def test_a_replayed_request_is_the_one_that_was_learnt_then():
    mine = [Event(day * DAY, item, "buy", "", 1.0, (), "new", "head") for day, item in ((40, "a"), (42, "b"))]
    (_, first_time) = made(mine, Sampling())
    old = [event._replace(role="old") for event in mine]
    (_, again) = made(old, Sampling(replay_share=1.0, replay_half_life_days=1e9))
    assert again == first_time._replace(view=REPLAY)


def test_an_anchor_knows_only_what_was_before_it():
    mine = [Event(day * DAY, "abc"[day % 3], "buy", "", 1.0, (), "old", "head") for day in (40, 41, 42)]
    anchors = made(mine, Sampling(anchor_share=0.999999))
    assert [(r.split, r.view, r.user_group, len(r.history)) for r in anchors] == [
        ("eval", ANCHOR, "new", 0),
        ("eval", ANCHOR, "returning", 1),
        ("eval", ANCHOR, "returning", 2),
    ]
    assert all(r.known_positives == () and r.timestamp < CUT * DAY for r in anchors)
