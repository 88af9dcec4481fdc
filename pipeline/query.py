"""`tandem query`: asks a running server and prints what came back, for people."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from serving.client import RetrievalClient
from transform.errors import TandemError


def query(
    address: str, text: str, history: str, k: int, texts: Sequence[str] = (), numbers: Sequence[str] = ()
) -> None:
    """Prints rank, item, title, category and score, and which version answered in how many milliseconds.

    Args:
      address: host:port of the server.
      text: what the customer typed, "" for nothing.
      history: item ids with commas between them, newest first.
      k: how many items.
      texts: category and path features, "name=value" each.
      numbers: number features, "name=value" each.

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
        found = client.search(text, ids, k, **features)
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


def _number(word: str) -> tuple[str, float]:
    name, value = _pair(word)
    try:
        return name, float(value)
    except ValueError as error:
        raise TandemError(f"--number got {word!r}, expected NAME=NUMBER such as household=2.") from error
