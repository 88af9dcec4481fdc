"""The commands of `tandem kubeflow`."""

import argparse

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


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="PIPELINE.yaml", help="what 'tandem kubeflow compile' wrote")


def _add_parameters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="such as span=3; may be repeated"
    )


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
    from kubeflow.compile import compile_pipeline, write_pipeline

    write_pipeline(compile_pipeline(settings, cluster), options.out)
    print(f"wrote {options.out}")


def _run_compiled(options: argparse.Namespace) -> None:
    from kubeflow.run_compiled import run_compiled

    run_compiled(options.file, options.root, _parameters(options))
