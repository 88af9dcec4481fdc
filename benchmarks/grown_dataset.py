"""A dataset several times over: the same events by new users of new items, so that only the number of rows grows."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def write_grown(base: str, directory: str | Path, times: int, events: int, spans: int) -> int:
    """Writes copies of part of a dataset; a copy is a row group of each file, which one worker reads.

    The part is a fixed set of whole users and the items that they bought, so histories are as long as they are; every
    copy has users, items, titles and sessions of its own.

    Args:
      base: dataset directory in Parquet, spans numbered from 1.
      directory: made.
      times: how many copies.
      events: about how many of the base's events a copy has.
      spans: how many of its spans, the first ones.

    Returns:
      The number of events written.
    """
    tables = {
        span: pa.concat_tables(
            [pq.read_table(path) for path in sorted(Path(base, f"events/span-{span}").iterdir())]
        )
        for span in range(1, spans + 1)
    }
    chosen = pa.array(_users(tables.values(), events))
    written = 0
    sold: set[str] = set()
    for span, table in tables.items():
        kept = table.filter(pc.is_in(table["user_id"], chosen))
        written += times * len(kept)
        sold.update(kept["item_id"].to_pylist())
        _write(
            kept,
            Path(directory, f"events/span-{span}/events.parquet"),
            times,
            ("user_id", "item_id", "session_id"),
        )
    items, users = (pq.read_table(Path(base, f"{name}.parquet")) for name in ("items", "users"))
    items = items.filter(pc.is_in(items["item_id"], pa.array(sorted(sold))))
    _write(items, Path(directory, "items.parquet"), times, ("item_id", "title"))
    users = users.filter(pc.is_in(users["user_id"], chosen))
    _write(users, Path(directory, "users.parquet"), times, ("user_id",))
    return written


def _users(tables: Iterable[pa.Table], events: int) -> list[str]:
    """Users in the order of a hash, until they have that many events together."""
    counts: dict[str, int] = {}
    for table in tables:
        for pair in pc.value_counts(table["user_id"]).to_pylist():
            counts[pair["values"]] = counts.get(pair["values"], 0) + pair["counts"]
    chosen: list[str] = []
    total = 0
    for user in sorted(counts, key=lambda user: hashlib.blake2b(user.encode()).digest()):
        if total >= events:
            break
        chosen.append(user)
        total += counts[user]
    return chosen


def _write(table: pa.Table, path: Path, times: int, own: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, table.schema) as writer:
        for copy in range(times):
            grown = table
            for name in set(own) & set(table.column_names):
                values = pc.binary_join_element_wise(table[name].cast(pa.string()), str(copy), " ")
                grown = grown.set_column(grown.column_names.index(name), name, values.cast(table[name].type))
            writer.write_table(grown, row_group_size=len(grown))
