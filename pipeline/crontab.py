"""A crontab line as an APScheduler trigger, with cron's own meaning of weekdays."""

import re

from apscheduler.triggers.cron import CronTrigger

from transform.errors import TandemError

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>[1-9]\d*))?")


def cron_trigger(line: str) -> CronTrigger:
    """Reads minute, hour, day of month, month and weekday, in the machine's own time zone.

    APScheduler 3 counts weekdays from Monday where cron counts from Sunday, so they are passed on by name.

    Args:
      line: such as "0 3 * * *" or "30 2 * * 1-5".

    Raises:
      TandemError: it is no such line, or names a day of the month and a weekday: cron runs on either, APScheduler
        on both.
    """
    fields = line.split()
    if len(fields) != 5:
        raise TandemError(
            f"--cron got {line!r}, {len(fields)} fields; expected five, minute hour day month weekday, such as"
            ' "0 3 * * *" for three at night.'
        )
    minute, hour, day, month, weekday = fields
    if day != "*" and weekday != "*":
        raise TandemError(
            f"--cron got {line!r} with a day of the month and a weekday, expected one of them: put * for the other."
        )
    try:
        return CronTrigger(
            minute=minute, hour=hour, day=day, month=month.lower(), day_of_week=_weekdays(weekday.lower())
        )
    except ValueError as error:
        raise TandemError(f'--cron got {line!r}: {error}; expected a line such as "0 3 * * *".') from error


def _weekdays(field: str) -> str:
    """Cron's weekdays, 0 and 7 for Sunday, as names: "1-5" -> "mon,tue,wed,thu,fri"."""
    if field == "*":
        return field
    days: set[int] = set()
    for part in field.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is no weekday")
        first = 0 if match["first"] == "*" else _day(match["first"])
        last = 6 if match["first"] == "*" else _day(match["last"] or match["first"])
        if match["step"] and not match["last"]:
            last = 6
        if last < first:
            raise ValueError(f"{part!r} goes backwards")
        days |= {day % 7 for day in range(first, last + 1, int(match["step"] or 1))}
    return ",".join(_DAYS[day] for day in sorted(days))


def _day(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    if text in "01234567" and len(text) == 1:
        return int(text)
    raise ValueError(f"{text!r} is no weekday, expected 0 to 7 or sun to sat")
