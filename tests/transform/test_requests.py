"""Point-in-time history: a request knows what its user did strictly before it, and nothing held out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import transform.requests
from transform.features import HISTORIES
from transform.requests import Event, Rules, requests_of
from transform.sampling import Sampling
from transform.window import Window

CUT = 50.0
DAY = 86400.0
WINDOW = Window(
    spans=(1,),
    target_spans=(1,),
    window_spans=(1,),
    late_from=float("-inf"),
    known_spans=(),
    cut=CUT * DAY,
    until=80 * DAY,
)
RULES = Rules(event_types={"buy": 1.0, "add": 0.5}, history_length=4, known_positive_days=5.0)

# Few days, items and types, so that ties and repeats are common.
events = st.lists(
    st.builds(
        Event,
        timestamp=st.integers(30, 80).map(lambda day: day * DAY),
        item_id=st.sampled_from("abcdef"),
        event_type=st.sampled_from(["buy", "add", "view"]),
        query=st.sampled_from(["", "", "mug"]),
        weight=st.sampled_from([1.0, 2.0]),
        context=st.sampled_from([(None,), ("phone",)]),
        role=st.sampled_from(["new", "old", "past"]),
        item_class=st.sampled_from(["new", "tail", "head"]),
    ),
    max_size=25,
)


def made(some_events, split, user="u"):
    return [r for r in requests_of(user, some_events, WINDOW, RULES) if r.split == split]


def check_history_is_past(some_events):
    """Each request's history is the newest of its user's events strictly before it, newest first."""
    for request in made(some_events, "train") + made(some_events, "eval"):
        past = [e for e in some_events if e.timestamp < request.timestamp]
        ages = [age for _, _, age in request.history]
        assert all(age > 0 for age in ages)
        assert ages == sorted(ages)
        assert len(ages) == min(len(past), RULES.history_length)
        newest = sorted((request.timestamp - e.timestamp) / DAY for e in past)
        assert ages == newest[: len(ages)]
        there = {(e.item_id, e.event_type, (request.timestamp - e.timestamp) / DAY) for e in past}
        assert set(request.history) <= there


@given(events)
def test_history_is_strictly_before_the_request(some_events):
    check_history_is_past(some_events)


def test_the_check_sees_a_request_that_looks_at_itself(monkeypatch):
    """Negative control: with `<=` for `<`, the event of the request itself is in its history."""
    mine = [Event(day * DAY, "a", "buy", "", 1.0, (), "new", "head") for day in (40, 41)]
    check_history_is_past(mine)
    monkeypatch.setattr(transform.requests, "bisect_left", transform.requests.bisect_right)
    with pytest.raises(AssertionError):
        check_history_is_past(mine)


@given(events)
def test_training_requests_do_not_change_when_the_held_out_time_is_unknown(some_events):
    unknown = [e for e in some_events if e.timestamp < WINDOW.cut]
    assert made(some_events, "train") == made(unknown, "train")


@given(events, st.randoms())
@settings(max_examples=50)
def test_the_order_of_the_events_does_not_matter(some_events, random):
    shuffled = list(some_events)
    random.shuffle(shuffled)
    key = str
    for split in ("train", "eval"):
        mine, theirs = made(some_events, split), made(shuffled, split)
        # Equal moments may differ in context only, which nothing orders; all else is the same.
        plain = [sorted((r._replace(context=()) for r in some), key=key) for some in (mine, theirs)]
        assert plain[0] == plain[1]


@given(events)
def test_each_target_is_learnt_or_held_out_and_nothing_else(some_events):
    wanted = [e for e in some_events if e.event_type in RULES.event_types]
    for split, roles, side in (
        ("train", ("new",), lambda t: t < WINDOW.cut),
        ("eval", ("new", "old"), lambda t: t >= WINDOW.cut),
    ):
        total = sum(
            sum(r.targets.values()) for r in made(some_events, split) if split == "train" or r.view == "all"
        )
        expected = sum(
            RULES.event_types[e.event_type] * e.weight
            for e in wanted
            if e.role in roles and side(e.timestamp)
        )
        assert total == pytest.approx(expected)


@given(events)
def test_unseen_leaves_out_exactly_what_the_user_had_before_the_cut(some_events):
    before = {e.item_id for e in some_events if e.timestamp < WINDOW.cut}
    for request in made(some_events, "eval"):
        if request.view == "unseen":
            assert set(request.known_positives) == before
            assert not before & set(request.targets)
        else:
            assert request.known_positives == ()


@given(events)
@settings(deadline=None)
def test_a_request_one_half_life_older_weighs_half_as_much_and_held_out_ones_do_not_age(some_events):
    aging = [*requests_of("u", some_events, WINDOW, RULES._replace(half_life_days=8.0))]
    steady = [*requests_of("u", some_events, WINDOW, RULES)]
    for older, one in zip(aging, steady, strict=True):
        share = 0.5 ** ((CUT - one.timestamp / DAY) / 8.0) if one.split == "train" else 1.0
        assert older.targets == pytest.approx({item: weight * share for item, weight in one.targets.items()})
        assert older._replace(targets={}) == one._replace(targets={})


def test_known_positives_are_near_in_time_and_of_every_type():
    def event(day, item, kind="buy"):
        return Event(day * DAY, item, kind, "", 1.0, (), "new", "head")

    mine = [event(34.9, "early"), event(35, "edge"), event(40, "own"), event(44, "seen", "view"), event(45, "late"),
            event(45.1, "later"), event(51, "held out")]  # fmt: skip
    (own,) = [r for r in made(mine, "train") if "own" in r.targets]
    assert own.known_positives == ("edge", "late", "own", "seen")


def test_a_bot_costs_no_more_than_its_neighbourhood(monkeypatch):
    monkeypatch.setattr(transform.requests, "_KNOWN_POSITIVE_EVENTS", 3)
    mine = [Event(40 * DAY + n, f"i{n:02d}", "buy", "", 1.0, (), "new", "head") for n in range(20)]
    tenth = made(mine, "train")[10]
    assert tenth.known_positives == ("i07", "i08", "i09", "i10", "i11", "i12")


def test_without_a_user_there_is_no_history_and_nothing_is_unseen():
    mine = [Event(day * DAY, "a", "buy", "mug", 1.0, (), "new", "new") for day in (40, 60)]
    (train,) = made(mine, "train", user="")
    assert train.history == ()
    held = made(mine, "eval", user="")
    assert [r.view for r in held] == ["all", "new_item"]
    assert {(r.user_group, r.query_group, r.history) for r in held} == {("none", "with_query", ())}


@given(events)
def test_a_history_at_the_cut_holds_what_was_done_before_it_and_no_anchor(some_events):
    sampling = Sampling(anchor_share=0.3)
    rules = RULES._replace(histories=True, sampling=sampling)
    for user in ("u", ""):
        found = [r for r in requests_of(user, some_events, WINDOW, rules) if r.split == HISTORIES]
        kept = [
            event
            for event in some_events
            if event.timestamp < WINDOW.cut and not sampling.is_anchor(user, event.timestamp, event.query)
        ]
        assert len(found) == bool(user and kept)
        for request in found:
            ages = [age for _, _, age in request.history]
            assert ages == sorted((WINDOW.cut - e.timestamp) / DAY for e in kept)[: RULES.history_length]
            there = {(e.item_id, e.event_type, (WINDOW.cut - e.timestamp) / DAY) for e in kept}
            assert set(request.history) <= there
            assert not request.targets and not request.known_positives and not request.query


def test_histories_are_made_only_where_they_are_asked_for():
    mine = [Event(day * DAY, "a", "buy", "", 1.0, (), "new", "head") for day in (40, 41)]
    assert not made(mine, HISTORIES)
