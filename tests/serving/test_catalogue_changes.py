"""What callers send as a change: a wrong one is refused by its place and column."""

import pytest

from serving.catalogue_changes import read_change
from serving.request_inputs import Limits, RequestError

COLUMNS = {"brand": False, "category": False, "item_id": False, "price": True, "title": False}


def test_what_has_no_value_is_left_out() -> None:
    item = {"item_id": "a", "title": " é ", "brand": "", "category": None, "price": 3}
    change = read_change({"upsert": [item], "delete": ["b"]}, COLUMNS, Limits())
    assert (change.upsert, change.delete) == ([{"item_id": "a", "title": " é ", "price": 3.0}], ["b"])
    assert read_change({"delete": ["b"], "upsert": None}, COLUMNS, Limits()).upsert == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            {"upsert": [{"item_id": "a", "titel": "mug"}]},
            r"upsert\[0\]: column 'titel' is unknown.*brand, category",
        ),
        ({"upsert": [{"item_id": "a"}]}, r"upsert\[0\]: column 'title' is missing"),
        ({"upsert": [{"title": "a"}]}, r"upsert\[0\]: column 'item_id' is missing"),
        ({"upsert": [{"item_id": 17, "title": "a"}]}, "column 'item_id' holds a number, expected text"),
        (
            {"upsert": [{"item_id": "a", "title": "a", "price": "3"}]},
            "column 'price' holds text, expected a number",
        ),
        ({"upsert": [{"item_id": "a", "title": "a", "price": True}]}, "column 'price' holds true or false"),
        ({"upsert": [{"item_id": "a", "title": "a", "price": float("inf")}]}, "column 'price' holds inf"),
        ({"upsert": [{"item_id": "a", "title": ["a"]}]}, "column 'title' holds a list"),
        (
            {"upsert": [{"item_id": "a\nb", "title": "a"}]},
            r"column 'item_id' is 'a\\nb', expected an id: one line",
        ),
        (
            {"upsert": [{"item_id": "a", "title": "t" * 20_001}]},
            "column 'title' holds 20,001 bytes, expected at most",
        ),
        ({"upsert": [{"item_id": "a", "title": "\ud800"}]}, "is not Unicode"),
        ({"upsert": [{"item_id": "a", "title": "b"}] * 2}, "item 'a' is there twice"),
        ({"upsert": [{"item_id": "a", "title": "b"}], "delete": ["a"]}, "item 'a' is there twice"),
        ({"upsert": "a"}, "'upsert' is no list, expected a list of items"),
        ({"upsert": [3]}, r"upsert\[0\] is no object"),
        ({"delete": [3.0]}, r"delete\[0\] holds a number, expected text"),
        ({"delete": [""]}, r"delete\[0\] is '', expected an id"),
        ({"delete": ["a"] * 1_025}, "received 1,025 items to upsert and delete, expected 1 to 1,024"),
        ({}, "received 0 items"),
        ({"remove": ["a"]}, "received 'remove', expected 'upsert'"),
    ],
)
def test_wrong_change_is_refused_by_its_place(body, reason) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        read_change(body, COLUMNS, Limits())
    assert caught.value.status == "INVALID_ARGUMENT"
