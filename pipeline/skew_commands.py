"""`tandem skew`: its words."""

import argparse


def add_skew_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `skew`."""
    skew = commands.add_parser("skew", help="compare logged requests with what a push was trained on")
    skew.add_argument("--push-dir", required=True, help="directory of pushed versions")
    skew.add_argument("--logs", required=True, help="directory of tandem serve's --prediction-log")
    skew.add_argument("--version", type=int, help="that answered the requests (default: the newest)")
    skew.set_defaults(call=_skew)


def _skew(options: argparse.Namespace) -> int:
    from rich.console import Console

    from pipeline.skew import compare_logs, skew_table

    report = compare_logs(options.push_dir, options.logs, options.version)
    console = Console()
    console.print(skew_table(report))
    console.print(report.summary(), highlight=False, markup=False, soft_wrap=True)
    return 1 if report.moved else 0
