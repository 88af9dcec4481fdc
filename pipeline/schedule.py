"""`tandem schedule`: retrains at set times, one run after the other, until it is told to stop."""

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from apscheduler.schedulers.background import BackgroundScheduler

from pipeline.crontab import cron_trigger

logger = logging.getLogger("tandem.schedule")

# Exit status of `tandem retrain` -> what is said of it.
_OUTCOMES = {
    0: "done",
    3: "the candidate was refused",
    4: "another run was going, so this one was skipped",
}


def schedule(cron: str, retrain: Sequence[str], name: str) -> None:
    """Runs `tandem retrain` whenever the crontab line says so; returns after SIGTERM or SIGINT.

    Each run is a process of its own: it starts with clean memory, and a crash of it ends no schedule. A tick while the
    last run is going is left out; ticks that were slept through are made up for by one run. A failure is logged, and the
    next tick tries again. The run that is going when the signal comes is waited for.

    Args:
      cron: five fields, in the machine's time zone.
      retrain: the words after `tandem retrain`.
      name: of the pipeline, for the log.

    Raises:
      TandemError: the crontab line is none.
    """
    trigger = cron_trigger(cron)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    _log_to_stderr()
    scheduler = BackgroundScheduler()
    job = scheduler.add_job(
        _retrain, trigger, [list(retrain)], name=name, max_instances=1, coalesce=True, misfire_grace_time=None
    )
    scheduler.start()
    logger.info("%s is retrained at %r, next at %s", name, cron, job.next_run_time)
    while not stopping.wait(1.0):
        pass  # a signal that the system gave to another thread is heard when this one wakes
    logger.info("stopping; a run that is going is waited for")
    scheduler.shutdown(wait=True)


def _retrain(words: Sequence[str]) -> None:
    logger.info("retrain starts")
    # A session of its own: Ctrl-C in a terminal reaches the schedule only, which waits for the run.
    command = [sys.executable, "-m", "pipeline.cli", "retrain", *words]
    status = subprocess.run(command, start_new_session=True, check=False).returncode
    if status in _OUTCOMES:
        logger.info("retrain ended: %s", _OUTCOMES[status])
    else:
        logger.error("retrain failed with exit status %d; the next tick tries again", status)


def _log_to_stderr() -> None:
    """The schedule's own lines, and APScheduler's warnings (a tick that was left out)."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for source, level in (("tandem", logging.INFO), ("apscheduler", logging.WARNING)):
        logging.getLogger(source).addHandler(handler)
        logging.getLogger(source).setLevel(level)
