"""What a check of a shop's files found, and what is wrong with them, in one table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table

_ROWS_SHOWN = 5


class Found(NamedTuple):
    """One file (or one span) as it is.

    Attributes:
      where: name of the file or folder.
      rows: how many it has.
      detail: columns, dates, kinds of event.
    """

    where: str
    rows: int
    detail: str


@dataclass
class Problem:
    """One thing that is wrong with a file.

    Attributes:
      what: the problem, and what to do where that is not plain.
      where: the file.
      count: rows that have it; 0 where it is the file as a whole.
      rows: numbers of the first few of them; rows count from 1, a CSV header is not a row.
      fatal: the data cannot be used at all; otherwise only these rows are left out.
    """

    what: str
    where: str
    count: int = 0
    rows: list[int] = field(default_factory=list)
    fatal: bool = False

    def add(self, rows: Sequence[int]) -> None:
        """Counts rows, and keeps the numbers of the first few."""
        self.count += len(rows)
        self.rows.extend(int(row) for row in rows[: max(0, _ROWS_SHOWN - len(self.rows))])


@dataclass
class Report:
    """The outcome of a check.

    Attributes:
      found: files in the order they were read.
      problems: fatal ones first; empty when all is well.
      total_rows: rows of all files.
      max_rejected_share: share of bad rows above which a run would stop.
      written: the dataset directory that was written, None where none was.
    """

    found: list[Found] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    total_rows: int = 0
    max_rejected_share: float = 0.01
    written: str | None = None

    @property
    def bad_rows(self) -> int:
        """Rows that a run would leave out."""
        return sum(problem.count for problem in self.problems if not problem.fatal)

    @property
    def failed(self) -> bool:
        """Whether a run on these files would stop."""
        too_many = self.bad_rows > self.max_rejected_share * max(self.total_rows, 1)
        return too_many or any(problem.fatal for problem in self.problems)

    def problem(self, what: str, where: str, *, fatal: bool = False) -> Problem:
        """The problem of this kind in this file, made where it is the first of them."""
        for known in self.problems:
            if (known.what, known.where) == (what, where):
                return known
        new = Problem(what, where, fatal=fatal)
        self.problems = sorted([*self.problems, new], key=lambda one: not one.fatal)
        return new

    def verdict(self) -> str:
        """One line: whether the files can be used, and what was written."""
        if self.failed:
            return "These files cannot be used as they are: mend what is listed. Nothing was written."
        left_out = f" {self.bad_rows} bad rows are left out." if self.bad_rows else ""
        return f"These files can be used.{left_out}" + (
            f" Written to {self.written}." if self.written else ""
        )

    def table(self) -> "Table":
        """One table: what was found, what is wrong, and the verdict below."""
        from rich.table import Table
        from rich.text import Text

        table = Table(caption=self.verdict(), caption_justify="left", show_lines=False)
        for name, options in (("", {}), ("file", {}), ("rows", {"justify": "right"}), ("what", {})):
            table.add_column(name, **options)  # type: ignore[arg-type]
        for found in self.found:
            table.add_row("found", Text(found.where), f"{found.rows:,}", Text(found.detail))
        table.add_section()
        for problem in self.problems:
            numbers = ", ".join(map(str, problem.rows)) + (
                ", ..." if problem.count > len(problem.rows) else ""
            )
            what = f"{problem.what} (rows {numbers})" if problem.rows else problem.what
            count = f"{problem.count:,}" if problem.count else "-"
            table.add_row("[red]wrong[/red]", Text(problem.where), count, Text(what))
        if not self.problems:
            table.add_row("wrong", "", "0", "nothing")
        return table
