"""A crontab line means what cron means by it."""

import datetime

import pytest

from pipeline.crontab import cron_trigger
from transform.errors import TandemError

# 2024-01-01 was a Monday.
MONDAY = datetime.datetime(2024, 1, 1, 12, 0)


def next_runs(line, count):
    """The next runs after Monday noon, as "Tue 2 03:00"."""
    trigger, found = cron_trigger(line), []
    now = MONDAY.replace(tzinfo=trigger.timezone)
    for _ in range(count):
        last = trigger.get_next_fire_time(found[-1] if found else None, now)
        found.append(last)
        now = last + datetime.timedelta(seconds=1)
    return [f"{moment:%a} {moment.day} {moment:%H:%M}" for moment in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 3 * * *", ["Tue 2 03:00", "Wed 3 03:00"]),
        ("*/20 12 * * *", ["Mon 1 12:00", "Mon 1 12:20", "Mon 1 12:40", "Tue 2 12:00"]),
        ("30 2 1 * *", ["Thu 1 02:30"]),
        ("0 3 * * 0", ["Sun 7 03:00", "Sun 14 03:00"]),  # cron counts from Sunday
        ("0 3 * * 7", ["Sun 7 03:00", "Sun 14 03:00"]),
        ("0 3 * * 1", ["Mon 8 03:00", "Mon 15 03:00"]),
        ("0 3 * * 5-7", ["Fri 5 03:00", "Sat 6 03:00", "Sun 7 03:00", "Fri 12 03:00"]),
        ("0 3 * * Mon-fri/2", ["Wed 3 03:00", "Fri 5 03:00", "Mon 8 03:00"]),
        ("0 3 * * */3", ["Wed 3 03:00", "Sat 6 03:00", "Sun 7 03:00"]),  # 0, 3 and 6
        ("0 3 * * 2,sun", ["Tue 2 03:00", "Sun 7 03:00"]),
    ],
)
def test_a_line_runs_when_cron_would(line, expected):
    assert next_runs(line, len(expected)) == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 3 * *", "4 fields; expected five"),
        ("", "0 fields"),
        ("61 3 * * *", "61"),
        ("0 3 * * 8", "'8' is no weekday"),
        ("0 3 * * fri-mon", "goes backwards"),
        ("0 3 * * ?", "is no weekday"),
        ("0 3 13 * 5", "a day of the month and a weekday, expected one of them"),
        ("at three * * *", "at"),
    ],
)
def test_a_line_that_is_none_is_refused(line, said):
    with pytest.raises(TandemError, match=said) as caught:
        cron_trigger(line)
    assert "\n" not in str(caught.value)
