"""`tandem query` and `tandem related`: ask a running server and print what came back, for people."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from serving.client import RetrievalClient, SearchResult
from serving.item_filter import NO_FILTER, ItemFilter
from transform.errors import TandemError


def query(
    address: str,
    text: str,
    history: str,
    k: int,
    texts: Sequence[str] = (),
    numbers: Sequence[str] = (),
    filters: ItemFilter = NO_FILTER,
) -> None:
    """Prints rank, item, title, category and score, and which version answered in how many milliseconds.

    Args:
      address: host:port of the server.
      text: what the customer typed, "" for nothing.
      history: item ids with commas between them, newest first.
      k: how many items.
      texts: category and path features, "name=value" each.
      numbers: number features, "name=value" each.
      filters: which items may be answered.

    Raises:
      TandemError: there is nothing to go by, a feature is not name=value, or the server refuses.
    """
    ids = [item.strip() for item in history.split(",") if item.strip()]
    if not text and not ids:
        raise TandemError(
            'got neither text nor history; expected one: tandem query "text" or --history id,id.'
        )
    features: dict[str, Any] = {**dict(map(_pair, texts)), **dict(map(_number, numbers))}
    with RetrievalClient(address) as client:
        _print(client, client.search(text, ids, k, filters=filters, **features))


def related(address: str, item_id: str, k: int) -> None:
    """Prints the items that are nearest to one, in the same way.

    Args:
      address: host:port of the server.
      item_id: the item.
      k: how many items.

    Raises:
      TandemError: the server does not know the item, or refuses the request.
    """
    with RetrievalClient(address) as client:
        _print(client, client.related(item_id, k))


def filter_of(values: Sequence[str], ranges: Sequence[str], exclude_history: bool) -> ItemFilter:
    """Which items may be answered.

    Args:
      values: "name=value" each; several of one name stand for one of them.
      ranges: "name=min..max" each, either end may be left out.
      exclude_history: whether what is in the history may not.

    Raises:
      TandemError: one is not of that form.
    """
    chosen: dict[str, list[str]] = {}
    for name, value in map(_pair, values):
        chosen.setdefault(name, []).append(value)
    return ItemFilter(chosen, dict(map(_range, ranges)), exclude_history=exclude_history)


def _print(client: RetrievalClient, found: SearchResult) -> None:
    about = client.items(found.item_ids)
    table = Table(title=f"version {found.version} in {found.milliseconds:.1f} ms")
    for column in ("", "item", "title", "category", "score"):
        table.add_column(column, justify="right" if column in ("", "score") else "left")
    for rank, (item_id, score, info) in enumerate(zip(found.item_ids, found.scores, about, strict=True), 1):
        table.add_row(str(rank), item_id, info.title, info.category, f"{score:.3f}")
    Console().print(table)


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise TandemError(f"got {word!r}, expected NAME=VALUE such as age=35-44.")
    return name, value


def _range(word: str) -> tuple[str, tuple[float | None, float | None]]:
    name, value = _pair(word)
    least, dots, most = value.partition("..")
    try:
        if not dots:
            raise ValueError(value)
        return name, (float(least) if least else None, float(most) if most else None)
    except ValueError as error:
        raise TandemError(f"--range got {word!r}, expected NAME=MIN..MAX such as price=5..20.") from error


def _number(word: str) -> tuple[str, float]:
    name, value = _pair(word)
    try:
        return name, float(value)
    except ValueError as error:
        raise TandemError(f"--number got {word!r}, expected NAME=NUMBER such as household=2.") from error
