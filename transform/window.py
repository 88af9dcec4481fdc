"""Which spans a run reads, which events it learns from, and where the held-out time begins."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from transform import dataset as datasets
from transform.errors import TandemError
from transform.settings import DataSettings

_DAY = 86400.0

# What an event's time lets it be: "new" is learnt from or held out; "old" is known to the previous push, and may be
# learnt again or judge what was forgotten; "past" is history only.
Role = Literal["new", "old", "past"]


class Previous(NamedTuple):
    """What the previous push has learnt from.

    Attributes:
      version: None for a bootstrap.
      trained_until: seconds UTC; its targets are older.
      spans: spans it has read targets from.
    """

    version: int | None = None
    trained_until: float | None = None
    spans: tuple[int, ...] = ()


class Window(NamedTuple):
    """The time plan of a run, in seconds UTC.

    Attributes:
      spans: spans that are read, for history or targets, oldest first.
      target_spans: spans with new events that may be targets.
      window_spans: spans whose older events may be learnt again or judge what was forgotten.
      late_from: in these spans only events at or after it are targets: the previous push knows the older ones.
      known_spans: spans that the previous push has learnt from.
      cut: events before it are learnt from, events at or after it are held out.
      until: the newest event.
    """

    spans: tuple[int, ...]
    target_spans: tuple[int, ...]
    window_spans: tuple[int, ...]
    late_from: float
    known_spans: tuple[int, ...]
    cut: float
    until: float

    def role(self, span: int, timestamp: float) -> Role:
        """What an event may be, by time alone."""
        is_unknown = span not in self.known_spans or timestamp >= self.late_from
        if timestamp >= self.cut or (span in self.target_spans and is_unknown):
            return "new"
        return "old" if span in self.window_spans else "past"


def plan_window(data: DataSettings, span: int = -1, previous: Previous | None = None) -> Window:
    """Chooses spans and the cut.

    A first run learns from the `window_spans` newest spans. A warm start learns from what has arrived since: spans that
    the previous push has not read, whatever their events' times, and the part that was held out from it. What else
    lies in the `window_spans` newest spans is old: some of it is learnt again, some judges what was forgotten.

    Args:
      data: settings.
      span: the newest span to use; -1 for the newest there is.
      previous: the push that the run starts from; none at bootstrap.

    Raises:
      TandemError: the span is not there.
    """
    previous = previous or Previous()
    there = datasets.spans(data.dataset)
    newest = there[-1] if span == -1 else span
    if newest not in there:
        raise TandemError(
            f"span {span} is not in {data.dataset!r}, which has {_in_words(there)}; name one of them or leave --span out."
        )
    usable = [number for number in there if number <= newest]
    until = datasets.time_range(data.dataset, newest)[1]
    cut = until - data.holdout_days * _DAY
    if previous.version is None or previous.trained_until is None:
        targets, late_from = usable[-data.window_spans :], float("-inf")
        known: tuple[int, ...] = ()
    else:
        late_from, known = previous.trained_until, previous.spans
        oldest = min(known, default=-1)  # what lies before a first run's window never becomes new
        targets = [
            s
            for s in usable
            if s >= oldest and (s not in known or datasets.time_range(data.dataset, s)[1] >= late_from)
        ]
    window = usable[-data.window_spans :] if data.anchor_share or data.replay_share else []
    first = min((usable.index(span) for span in (*targets, *window)), default=len(usable) - 1)
    read = usable[max(0, first - data.history_spans) :]
    return Window(tuple(read), tuple(targets), tuple(window), late_from, tuple(known), cut, until)


def _in_words(spans: Sequence[int]) -> str:
    return f"spans {spans[0]}-{spans[-1]}" if len(spans) > 1 else f"span {spans[0]} only"
