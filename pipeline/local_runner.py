"""Runs the graph on this machine with LocalDagRunner, showing progress and a table of what came out.

What can be refused is refused before TensorFlow and TFX are imported, which takes longer than the check.
"""

import datetime
import json
import logging
import os
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table

from pipeline.due import spans_due
from pipeline.lock import only_run
from pipeline.progress import Progress
from pipeline.settings import Settings
from serving.bundle import newest_version
from transform.dataset import fingerprint
from transform.errors import TandemError

if TYPE_CHECKING:
    from tfx.orchestration import pipeline as tfx_pipeline

    from pipeline.run_report import Row


class RunResult(NamedTuple):
    """What a run left behind.

    Attributes:
      rows: one a component.
      version: the version pushed, None where the candidate was refused.
      refused: why it was refused, one line a reason.
      gates: path of the table of gates.
      uris: component -> output name -> artifact directory.
    """

    rows: "list[Row]"
    version: int | None
    refused: list[str]
    gates: str
    uris: dict[str, dict[str, str]]


def run_locally(
    settings: Settings, *, span: int = -1, from_scratch: bool = False, console: Console | None = None
) -> RunResult:
    """Runs every component in this process, one after the other, with SQLite metadata.

    What is unchanged since an earlier run is taken from the cache, so the same command after a crash goes on where it
    broke. The push alone is never taken from there: what it did shows in the push directory.

    Args:
      settings: the profile.
      span: newest span to use, -1 for the newest there is.
      from_scratch: start anew, as the first run did, whatever has been pushed.
      console: where progress is shown.

    Raises:
      NothingDue: the newest push has learnt every span up to `span`.
      AnotherRun: another run pushes to the same directory.
      TandemError: a component stopped the run; nothing was pushed.
    """
    console = console or Console()
    root = os.path.abspath(settings.paths.pipeline_root)
    _make_writable(root, "pipeline root")
    _make_writable(os.path.abspath(settings.paths.push_dir), "push directory")
    with only_run(settings.paths.push_dir):
        if not from_scratch:
            spans_due(settings, span)
        _check_preset(settings.encoder.preset)
        previous = 0 if from_scratch else newest_version(settings.paths.push_dir)
        return _run_alone(settings, root, span, previous, console)


def _run_alone(settings: Settings, root: str, span: int, previous: int, console: Console) -> RunResult:
    from pipeline.gate_report import gates_table, read_report
    from pipeline.graph import create_pipeline
    from pipeline.run_report import output_uris, run_report
    from towers.precision import make_strategy
    from transform.schema import write_schema

    make_strategy(settings.training)  # its devices cannot be made once TensorFlow has run anything
    pipeline = create_pipeline(
        settings,
        schema_file=write_schema(settings.features, os.path.join(root, "curated_schema"), settings.bad_days),
        span=span,
        previous_version=previous,
        input_fingerprint=fingerprint(settings.data.dataset, span),
        started=datetime.datetime.now().timestamp(),
    )
    run_id = datetime.datetime.now().strftime("%Y%m%dT%H%M%S.%f")
    with Progress(console, len(pipeline.components), os.path.join(root, "logs", f"{run_id}.log")) as progress:
        try:
            _run(pipeline, run_id)
        except Exception as error:
            raise _explain(error, progress.running, progress.log_file) from error
    metadata_path = os.path.join(root, "metadata.sqlite")
    rows = run_report(metadata_path, run_id)
    console.print(_table(rows))
    uris = output_uris(metadata_path, run_id)
    console.print(gates_table(read_report(uris["Gatekeeper"]["blessing"]).judgements))
    return RunResult(rows, *_verdict(uris), uris)


def _run(pipeline: "tfx_pipeline.Pipeline", run_id: str) -> None:
    from tfx.dsl.compiler import compiler, constants
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner
    from tfx.orchestration.portable import runtime_parameter_utils

    ir = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(
        ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    for node in ir.nodes:
        if node.pipeline_node.node_info.id == "Pusher":
            node.pipeline_node.execution_options.caching_options.enable_cache = False
    LocalDagRunner().run_with_ir(ir)


def _make_writable(directory: str, what: str) -> None:
    try:
        os.makedirs(directory, exist_ok=True)
        probe = os.path.join(directory, f".tandem-probe-{os.getpid()}")
        with open(probe, "w", encoding="utf-8"):
            pass
        os.remove(probe)
    except OSError as error:
        raise TandemError(
            f"{what} {directory!r} cannot be written ({error.strerror}); expected a writable directory:"
            " mend its permissions or set another under 'paths' in the profile."
        ) from error


def _check_preset(preset: str) -> None:
    if not os.path.isfile(os.path.join(preset, "config.json")):
        raise TandemError(
            f"encoder preset {preset!r} is not there (no config.json); expected a KerasNLP preset directory:"
            " make one with 'tandem encoder import SOURCE OUT' and set encoder.preset."
        )


def _verdict(uris: dict[str, dict[str, str]]) -> tuple[int | None, list[str], str]:
    from pipeline.pusher import REPORT

    with open(os.path.join(uris["Pusher"]["pushed"], REPORT), encoding="utf-8") as file:
        report = json.load(file)
    return report["version"], report["refused"], report["gates"]


def _explain(error: BaseException, component: str, log_file: str) -> TandemError:
    """The TandemError at the bottom of what TFX and Beam wrapped, or one line that names the component and the log."""
    logging.getLogger("tandem").debug("run failed", exc_info=error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TandemError):
            message = str(cause).split(" [while running")[0]
            return TandemError(f"{component} stopped the run: {message} Nothing was pushed.")
        cause = cause.__cause__ or cause.__context__
    return TandemError(
        f"{component} failed with {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'};"
        f" the whole story is in {log_file}. Nothing was pushed; the same command goes on from here."
    )


def _table(rows: "list[Row]") -> Table:
    table = Table(title="run")
    table.add_column("component")
    table.add_column("seconds", justify="right")
    table.add_column("what came out")
    for row in rows:
        seconds = "cached" if row.cached else f"{row.seconds:.1f}"
        table.add_row(row.component, seconds, row.outcome)
    return table
