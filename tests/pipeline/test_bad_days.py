"""A day that is not like those before it is stopped before training, with its names, and let through by them."""

import re

import pytest

from tests.pipeline.days import day_of, next_week, validate
from transform.errors import TandemError


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Three weeks, with users, queries, views and a context column."""
    from tests.mini_shop import write_mini_shop

    return write_mini_shop(tmp_path_factory.mktemp("days") / "shop", users=80, spans=3)


@pytest.fixture(scope="module")
def pushed(shop, tmp_path_factory):
    """The first run, on weeks 1 to 3."""
    return day_of(tmp_path_factory.mktemp("pushed"), shop, 3)


def few(events):
    return events.iloc[::3]


def flood(events):
    events.loc[events.index % 4 == 0, "item_id"] = "i007"
    return events


def no_queries(events):
    return events.assign(query=None)


def all_phones(events):
    return events.assign(device="phone")


def in_cents(items):
    return items.assign(price=items["price"] * 100)


def no_prices(items):
    return items.assign(price=float("nan"))


def one_brand(items):
    return items.assign(brand="Star")


@pytest.fixture(scope="module")
def meagre(shop, pushed, tmp_path_factory):
    """A third of the events, from phones only, and prices in cents."""
    root = tmp_path_factory.mktemp("meagre")

    def change(events):
        return all_phones(few(events))

    return day_of(root, next_week(shop, root / "shop", change=change, items=in_cents), 4, pushed)


@pytest.fixture(scope="module")
def robot(shop, pushed, tmp_path_factory):
    """One item in every fourth event, no query, one brand and no price."""
    root = tmp_path_factory.mktemp("robot")

    def change(events):
        return flood(no_queries(events))

    def items(table):
        return one_brand(no_prices(table))

    return day_of(root, next_week(shop, root / "shop", change=change, items=items), 4, pushed)


MEAGRE = ("few_events", "drift:device", "drift:price")
ROBOT = ("flood:i007", "drift:query", "drift:brand", "drift:price")


def refusal(day, root, **bars):
    """The one line that the day is stopped with."""
    with pytest.raises(TandemError) as caught:
        validate(day, root, **bars)
    line = str(caught.value)
    assert line.startswith("this looks like a bad day, so nothing was trained: ") and "\n" not in line
    return line


def test_a_first_run_has_nothing_to_compare_with(pushed, tmp_path):
    assert validate(pushed, tmp_path) == []


def test_a_week_like_the_one_before_passes(shop, pushed, tmp_path):
    good = day_of(tmp_path, next_week(shop, tmp_path / "shop"), 4, pushed)
    assert validate(good, tmp_path) == []
    assert sorted(map(int, good.report()["span_counts"])) == [1, 2, 3, 4]


@pytest.mark.parametrize(("name_of_day", "names"), [("meagre", MEAGRE), ("robot", ROBOT)])
def test_every_anomaly_is_named_and_each_is_let_through_by_its_own_name_only(
    name_of_day, names, request, tmp_path
):
    day = request.getfixturevalue(name_of_day)
    line = refusal(day, tmp_path)
    assert sorted(re.findall(r"--allow (\S+?)\.?(?= |$)", line)) == sorted(names)
    for name in names:
        others = tuple(other for other in names if other != name)
        left = refusal(day, tmp_path, allow=others)
        assert left.endswith(f"let it through with --allow {name}."), left
    assert validate(day, tmp_path, allow=names) == sorted(names)


def test_an_anomaly_is_said_in_words(meagre, robot, tmp_path):
    line = refusal(meagre, tmp_path)
    assert "few_events (span 4 has " in line and "the median of 3 spans before is" in line
    # The held-out days are all of the new week; half of what is learnt is still the week before.
    assert "drift:device (split eval: The Linfty distance between current and previous is" in line
    assert "drift:price (split items: The approximate Jensen-Shannon divergence" in line
    line = refusal(robot, tmp_path)
    assert "events are of item 'i007', the most frequent item has" in line
    # No value has drifted where there is none left. Every eleventh of the 60 items had no price before.
    assert "drift:price (split items: 0% of the rows have a value, 90% had one" in line


def test_the_bars_are_the_profile_s(meagre, tmp_path):
    others = ("drift:device", "drift:price")
    assert validate(meagre, tmp_path, min_events_share=0.3, allow=others) == sorted(others)
