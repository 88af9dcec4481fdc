"""What of each item can be filtered on: a Parquet file of the declared item features, and its columns in memory."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.manifest import EXTRA, BundleError
from transform.features import ITEM_ID, PATH_SEPARATOR

ATTRIBUTES = f"{EXTRA}/item_attributes.parquet"

# In files with other columns, too, attributes have this before their name.
PREFIX = "attribute:"

_KIND = b"kind"
_NUMBER, _PATH = "number", "path"
_ROWS = 100_000  # of a row group


def attribute_schema(kinds: Mapping[str, str]) -> Any:
    """Columns of attributes as `pyarrow.Schema`: text or float32, their kind in the metadata."""
    import pyarrow as pa

    types = {name: pa.float32() if kind == _NUMBER else pa.string() for name, kind in kinds.items()}
    return pa.schema(
        [pa.field(f"{PREFIX}{name}", types[name], metadata={_KIND: kind}) for name, kind in kinds.items()]
    )


def attribute_columns(inputs: Mapping[str, NDArray[Any]], kinds: Mapping[str, str]) -> list[Any]:
    """Dense item inputs, bytes or float32 [B] each, as the columns of `attribute_schema`; "" and NaN become null."""
    import pyarrow as pa

    columns = []
    for name, kind in kinds.items():
        if kind == _NUMBER:
            columns.append(pa.array(inputs[name], pa.float32(), from_pandas=True))
        else:
            texts = (value.decode("utf-8") or None for value in inputs[name].tolist())
            columns.append(pa.array(texts, pa.string()))
    return columns


def write_attributes(files: Sequence[str], path: str) -> str | None:
    """Writes the attributes out of Parquet files with `item_id` and attribute columns, ordered by id.

    Only these columns are held in memory, not the vectors beside them.

    Returns:
      `path`; none where there are no attributes.
    """
    import pyarrow as pa
    from pyarrow import parquet

    names = [name for name in parquet.read_schema(files[0]).names if name.startswith(PREFIX)]
    if not names:
        return None
    table = pa.concat_tables([parquet.read_table(file, columns=[ITEM_ID, *names]) for file in files])
    parquet.write_table(table.sort_by(ITEM_ID).select(names), path, row_group_size=_ROWS)
    return path


class ItemAttributes:
    """The attributes of all items; safe to share between threads.

    Attributes:
      kinds: name -> "category", "path" or "number".
    """

    def __init__(self, table: Any) -> None:
        """Takes a `pyarrow.Table` of `attribute_schema`, a row an item."""
        self.kinds: dict[str, str] = {}
        self._numbers: dict[str, NDArray[np.float32]] = {}
        self._texts: dict[str, _Text] = {}
        self.size = len(table)
        for field in table.schema:
            name, kind = field.name.removeprefix(PREFIX), field.metadata[_KIND].decode()
            column = table[field.name]
            self.kinds[name] = kind
            if kind == _NUMBER:
                values = column.combine_chunks().fill_null(float("nan"))
                self._numbers[name] = values.to_numpy(zero_copy_only=False)
            else:
                self._texts[name] = _Text(column, is_path=kind == _PATH)

    def among(self, name: str, values: Sequence[bytes]) -> NDArray[np.bool_]:
        """Which items have one of some values; of a path, "A > B" stands for all below it, too.

        Args:
          name: of a category or path.
          values: those that no item has count for nothing.

        Returns:
          bool [N].
        """
        return self._texts[name].among(values)

    def of(self, row: int) -> dict[str, str | float]:
        """One item's attributes, without those that have no value."""
        numbers = {name: float(values[row]) for name, values in self._numbers.items()}
        texts = {name: text.of(row) for name, text in self._texts.items()}
        return {name: v for name, v in numbers.items() if v == v} | {n: v for n, v in texts.items() if v}

    def within(self, name: str, least: float, most: float) -> NDArray[np.bool_]:
        """Which items have a number from `least` to `most`, both included; NaN leaves an end open.

        An item without a number is not within any range.

        Returns:
          bool [N].
        """
        values = self._numbers[name]
        least = -np.inf if np.isnan(least) else least
        most = np.inf if np.isnan(most) else most
        return (values >= np.float32(least)) & (values <= np.float32(most))


class _Text:
    """A column of texts, each distinct one kept once."""

    def __init__(self, column: Any, is_path: bool) -> None:
        encoded = column.dictionary_encode().unify_dictionaries().combine_chunks()
        self._texts = texts = encoded.dictionary.to_pylist()
        self._count = len(texts)
        none = self._count  # stands for "no value"
        self._codes = encoded.indices.fill_null(none).to_numpy(zero_copy_only=False).astype(np.int32)
        self._is_path = is_path
        self._having: dict[str, list[int]] = {}
        for code, text in enumerate(texts):
            for value in _prefixes(text) if is_path else (text,):
                self._having.setdefault(value, []).append(code)

    def of(self, row: int) -> str:
        code = self._codes[row]
        return "" if code == self._count else str(self._texts[code])

    def among(self, values: Sequence[bytes]) -> NDArray[np.bool_]:
        wanted = np.zeros(self._count + 1, np.bool_)
        for value in values:
            text = value.decode("utf-8")
            if self._is_path:
                text = next(iter(_prefixes(text)[-1:]), "")
            wanted[self._having.get(text, [])] = True
        return wanted[self._codes]


def _prefixes(path: str) -> list[str]:
    """ "A > B" -> ["A", "A>B"]; space around a level does not count."""
    levels = [level.strip() for level in path.split(PATH_SEPARATOR)]
    levels = [level for level in levels if level]
    return [PATH_SEPARATOR.join(levels[: depth + 1]) for depth in range(len(levels))]


def read_attributes(directory: str | os.PathLike[str]) -> ItemAttributes | None:
    """A bundle's attributes; none in one without declared item features, or that was written before there were any.

    Raises:
      BundleError: the file does not hold them.
    """
    import pyarrow as pa
    from pyarrow import parquet

    path = Path(directory, ATTRIBUTES)
    if not path.exists():
        return None
    try:
        return ItemAttributes(parquet.read_table(path))
    except (OSError, pa.ArrowException, KeyError, TypeError) as error:
        raise BundleError(
            f"{path} holds no item attributes ({type(error).__name__}), expected them: push the bundle again."
        ) from error
