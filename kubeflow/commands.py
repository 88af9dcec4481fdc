"""The commands of `tandem kubeflow`."""

import argparse
import sys

from transform.errors import TandemError


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `kubeflow` and what comes after it to the commands of `tandem`."""
    kubeflow = commands.add_parser("kubeflow", help="the same pipeline on Kubeflow Pipelines")
    actions = kubeflow.add_subparsers(required=True, metavar="ACTION")

    compile_ = actions.add_parser("compile", help="write the pipeline as a file for Kubeflow")
    compile_.add_argument("--profile", required=True, help="YAML file of settings, see pipeline/profiles/")
    compile_.add_argument(
        "--cluster",
        required=True,
        help="YAML file of what the cluster gives each step, see kubeflow/profiles/",
    )
    compile_.add_argument("--out", required=True, metavar="PIPELINE.yaml", help="file to write")
    compile_.set_defaults(call=_compile)

    run = actions.add_parser("run-compiled", help="execute a compiled pipeline on this machine")
    _add_file(run)
    _add_parameters(run)
    run.add_argument(
        "--root",
        default="work/kubeflow",
        help="directory for artifacts, logs and cache (default: work/kubeflow)",
    )
    run.set_defaults(call=_run_compiled)

    submit = actions.add_parser("submit", help="run a compiled pipeline on a cluster, once")
    _add_file(submit)
    _add_parameters(submit)
    _add_host(submit)
    submit.set_defaults(call=_submit)

    schedule = actions.add_parser("schedule", help="run a compiled pipeline on a cluster, again and again")
    schedule.add_argument("file", nargs="?", metavar="PIPELINE.yaml", help="not needed with --list")
    what = schedule.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--cron", metavar="'0 3 * * *'", help="minute hour day month weekday; replaces the schedule"
    )
    what.add_argument("--pause", action="store_true", help="start no more runs until it is scheduled again")
    what.add_argument("--list", action="store_true", help="show every schedule of the cluster")
    _add_parameters(schedule)
    _add_host(schedule)
    schedule.set_defaults(call=_schedule)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="PIPELINE.yaml", help="what 'tandem kubeflow compile' wrote")


def _add_parameters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="such as span=3; may be repeated"
    )


def _add_host(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", required=True, metavar="URL", help="API of Kubeflow Pipelines")
    parser.add_argument(
        "--token-file", metavar="FILE", help="file with a bearer token, where the API asks for one"
    )
    parser.add_argument("--namespace", help="yours, where several users share Kubeflow")


def _parameters(options: argparse.Namespace) -> dict[str, str]:
    given = {}
    for word in options.param:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise TandemError(f"--param received {word!r}, expected NAME=VALUE such as span=3.")
        given[name] = value
    return given


def _compile(options: argparse.Namespace) -> None:
    from kubeflow.settings import load_cluster
    from pipeline.settings import load_settings

    settings, cluster = load_settings(options.profile), load_cluster(options.cluster)
    print(f"compiling {options.profile} for {options.cluster} ...", flush=True)
    from kubeflow.compile import compile_pipeline, write_pipeline

    write_pipeline(compile_pipeline(settings, cluster), options.out)
    print(f"wrote {options.out}")


def _run_compiled(options: argparse.Namespace) -> int:
    from kubeflow.run_compiled import run_compiled
    from kubeflow.verdict import verdict

    results = run_compiled(options.file, options.root, _parameters(options))
    came_to = verdict(uri for result in results for uri in result.outputs.values())
    if came_to is None:
        print("done; no step of this pipeline pushes")
        return 0
    if came_to.version is None:
        print(f"tandem: refused, the last push serves on: {'; '.join(came_to.refused)}", file=sys.stderr)
        print(f"the gates' table is kept in {came_to.gates}", file=sys.stderr)
        return 3
    print(f"pushed version {came_to.version} to {came_to.path}")
    return 0


def _submit(options: argparse.Namespace) -> None:
    from kubeflow.connection import connected
    from kubeflow.submit import submit

    parameters = _parameters(options)
    with connected(options.host, token_file=options.token_file, namespace=options.namespace) as client:
        done = submit(client, options.file, parameters, options.namespace)
    how = "uploaded" if done.version.new else "there already"
    print(f"version {done.version.version_name} {how}")
    print(f"run {done.run_id} {'started' if done.new else 'is under way already'}")


def _schedule(options: argparse.Namespace) -> None:
    from kubeflow.connection import connected
    from kubeflow.schedule import pause, schedule, schedules

    parameters = _parameters(options)
    if options.file is None and not options.list:
        raise TandemError("schedule received no pipeline file; expected one with --cron and with --pause.")
    with connected(options.host, token_file=options.token_file, namespace=options.namespace) as client:
        if options.list:
            lines = [
                f"{one.name}  {one.cron}  {'enabled' if one.enabled else 'paused'}  {one.recurring_run_id}"
                for one in schedules(client, options.namespace)
            ] or ["no schedules"]
        elif options.pause:
            lines = [f"{one.name} is paused" for one in pause(client, options.file, options.namespace)]
        else:
            made, changed = schedule(client, options.file, options.cron, parameters, options.namespace)
            lines = [f"{made.name} runs at '{made.cron}' (seconds first){'' if changed else ', as it did'}"]
    print("\n".join(lines))
