"""Parquet and CSV files read in parts that fit in memory, with the row numbers of the file."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from transform.errors import TandemError

_BATCH_ROWS = 65536
_CSV_BLOCK_BYTES = 8 << 20
_PARSE = pa_csv.ParseOptions(newlines_in_values=True)


class Part(NamedTuple):
    """A piece of a file that one worker reads.

    Attributes:
      path: the file.
      group: the Parquet row group; -1 for a CSV file, which is read whole.
      first_row: number of the part's first row in the file; rows count from 1, a CSV header is not a row.
    """

    path: str
    group: int
    first_row: int


def column_types(path: str) -> dict[str, pa.DataType]:
    """Columns of a file and their types; every column of a CSV file is text.

    Raises:
      TandemError: the file cannot be read as what its name says.
    """
    with _Readable(path):
        if _is_csv(path):
            with _open_csv(path, None) as reader:
                return {name: pa.string() for name in reader.schema.names}
        schema = pq.read_schema(path)
        return dict(zip(schema.names, schema.types, strict=True))


def row_count(path: str) -> int:
    """Rows of a file; a CSV file is read through for it.

    Raises:
      TandemError: the file cannot be read.
    """
    with _Readable(path):
        if not _is_csv(path):
            return pq.read_metadata(path).num_rows
        with _open_csv(path, None) as reader:
            return sum(batch.num_rows for batch in reader)


def parts(path: str) -> list[Part]:
    """Pieces of a file, in order.

    Raises:
      TandemError: the file cannot be read.
    """
    if _is_csv(path):
        return [Part(path, -1, 1)]
    with _Readable(path):
        metadata = pq.read_metadata(path)
    found, row = [], 1
    for group in range(metadata.num_row_groups):
        found.append(Part(path, group, row))
        row += metadata.row_group(group).num_rows
    return found


def read_part(part: Part, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """Reads a part in batches of at most 65,536 rows (CSV: 8 MiB).

    Args:
      part: what to read.
      columns: wanted columns; those the file does not have are left out.

    Yields:
      (number of the batch's first row in the file, table).

    Raises:
      TandemError: the file cannot be read.
    """
    present = set(column_types(part.path))
    wanted = [name for name in columns if name in present]
    row = part.first_row
    with _Readable(part.path):
        if part.group < 0:
            with _open_csv(part.path, wanted) as reader:
                for batch in reader:
                    yield row, pa.Table.from_batches([batch])
                    row += batch.num_rows
            return
        with open(part.path, "rb") as file:
            batches = pq.ParquetFile(file).iter_batches(_BATCH_ROWS, row_groups=[part.group], columns=wanted)
            for batch in batches:
                yield row, pa.Table.from_batches([batch])
                row += batch.num_rows


def read_file(path: str, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """Reads all parts of a file, one after the other; see `read_part`."""
    for part in parts(path):
        yield from read_part(part, columns)


def _is_csv(path: str) -> bool:
    return path.endswith(".csv")


def _open_csv(path: str, columns: Sequence[str] | None) -> pa_csv.CSVStreamingReader:
    names = columns
    if names is None:
        with pa_csv.open_csv(path, parse_options=_PARSE) as header:
            names = header.schema.names
    return pa_csv.open_csv(
        path,
        read_options=pa_csv.ReadOptions(block_size=_CSV_BLOCK_BYTES, use_threads=False),
        parse_options=_PARSE,
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            include_columns=list(names),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


class _Readable:
    """Turns what Arrow and the file system say about a file into one line."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (pa.ArrowException, OSError)):
            what = "CSV file with a header, UTF-8 and commas" if _is_csv(self._path) else "Parquet file"
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise TandemError(
                f"{self._path} cannot be read ({first[:200]}); expected a {what}: write the file again."
            ) from error
