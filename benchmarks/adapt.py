"""What the adapters of benchmark data share: arguments in, a checked dataset directory out."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from transform.errors import TandemError


class Tables(NamedTuple):
    """A shop's tables under the names of the dataset contract; docs/data.md has the columns.

    Attributes:
      items, events: one row an item, one row an event.
      users: one row a user, None where there are no users.
    """

    items: pd.DataFrame
    events: pd.DataFrame
    users: pd.DataFrame | None = None


def run_adapter(description: str, adapt: Callable[[Path], Tables]) -> int:
    """Reads SOURCE and OUT from the command line, adapts, checks, and writes weekly spans.

    The tables go through the check of `tandem prepare parquet`, so that no adapter writes what a run refuses.

    Args:
      description: for --help.
      adapt: source directory -> tables.

    Returns:
      0 done, 2 the source or the target is not usable (one line, or the report, says why).
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("source", type=Path, help="directory with the data as published")
    parser.add_argument("out", type=Path, help="dataset directory to make")
    options = parser.parse_args()
    try:
        return _write(adapt, options.source, options.out)
    except TandemError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


def read_table(source: Path, name: str) -> pd.DataFrame:
    """Reads `<source>/<name>.parquet`.

    Raises:
      TandemError: it is not there.
    """
    path = source / f"{name}.parquet"
    if not path.is_file():
        raise TandemError(f"{path} is not there; expected a directory with {name}.parquet, as published.")
    return pd.read_parquet(path)


def _write(adapt: Callable[[Path], Tables], source: Path, out: Path) -> int:
    from rich.console import Console

    from transform.check import prepare_files

    tables = adapt(source)
    with tempfile.TemporaryDirectory() as flat:
        for name, table in tables._asdict().items():
            if table is not None:
                table.to_parquet(Path(flat) / f"{name}.parquet", index=False)
        report = prepare_files("parquet", flat, str(out), span_length="week")
    Console().print(report.table())
    return 2 if report.failed else 0
