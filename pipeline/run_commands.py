"""`tandem run`, `retrain` and `schedule`: their words, and what the profile's settings become with them."""

import argparse
import sys


def add_run_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the commands that train and push."""
    run = commands.add_parser("run", help="run the pipeline once: data to pushed bundle")
    add_profile(run)
    run.add_argument("--span", type=int, default=-1, help="newest span to use (default: the newest there is)")
    run.add_argument(
        "--from-scratch",
        action="store_true",
        help="start anew, where the previous push cannot be gone on from",
    )
    _add_allow(run)
    run.set_defaults(call=_run)

    retrain = commands.add_parser(
        "retrain", help="run the pipeline if spans have arrived since the last push"
    )
    add_profile(retrain)
    _add_allow(retrain)
    retrain.set_defaults(call=_retrain)

    schedule = commands.add_parser("schedule", help="keep retraining at set times, until SIGTERM")
    add_profile(schedule)
    schedule.add_argument(
        "--cron", required=True, help='minute, hour, day, month, weekday as in a crontab: "0 3 * * *"'
    )
    schedule.set_defaults(call=_schedule)


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Adds the profile, and what may be given instead of two of its settings."""
    parser.add_argument("--profile", required=True, help="YAML file of settings, see pipeline/profiles/")
    parser.add_argument("--data", help="dataset directory, instead of the profile's data.dataset")
    parser.add_argument("--push-dir", help="instead of the profile's paths.push_dir")


def _add_allow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="NAME",
        help="let an anomaly of the data through, by the name that was printed with it; may be repeated",
    )


def settings_of(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    """The profile's settings with the command's own words put over them."""
    from pipeline.settings import load_settings

    settings = load_settings(
        options.profile, {"data.dataset": options.data, "paths.push_dir": options.push_dir}
    )
    if getattr(options, "allow", None):
        return settings.model_copy(update={"bad_days": settings.bad_days.allowing(options.allow)})
    return settings


def _run(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    from pipeline.local_runner import run_locally

    result = run_locally(settings, span=options.span, from_scratch=options.from_scratch)
    return _say_verdict(result, settings.paths.push_dir)


def _retrain(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    from pipeline.local_runner import run_locally

    return _say_verdict(run_locally(settings), settings.paths.push_dir)


def _schedule(options: argparse.Namespace) -> None:
    settings = settings_of(options)
    from pipeline.schedule import schedule

    words = ["--profile", options.profile]
    for flag, value in (("--data", options.data), ("--push-dir", options.push_dir)):
        words += [flag, value] if value else []
    schedule(options.cron, words, settings.name)


def _say_verdict(result, push_dir: str) -> int:  # type: ignore[no-untyped-def]
    if result.version is None:
        print(f"tandem: refused, the last push serves on: {'; '.join(result.refused)}", file=sys.stderr)
        print(f"the gates' table is kept in {result.gates}", file=sys.stderr)
        return 3
    print(f"pushed version {result.version} to {push_dir}")
    return 0
