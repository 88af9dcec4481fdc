"""`tandem schedule` at one tick a second: python -m tests.pipeline.run_schedule PROFILE."""

import sys

from apscheduler.triggers.cron import CronTrigger

import pipeline.schedule
from pipeline.cli import main

if __name__ == "__main__":
    pipeline.schedule.cron_trigger = lambda line: CronTrigger(second="*")
    sys.exit(main(["schedule", "--profile", sys.argv[1], "--cron", "* * * * *"]))
