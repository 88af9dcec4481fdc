"""A recurring run of a compiled pipeline on a cluster: one a pipeline, never two runs at a time."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from kubeflow.compiled_file import read_spec
from kubeflow.run_compiled import run_parameters
from kubeflow.submit import Version, named, upload
from transform.errors import TandemError

_FIELD = re.compile(r"[\d*,/?A-Za-z-]+")


class Schedule(NamedTuple):
    """A recurring run on the cluster.

    Attributes:
      name: of the pipeline.
      cron: when, in six fields with seconds first; "" where it is no cron schedule.
      enabled: False while it is paused.
      recurring_run_id: of the recurring run.
    """

    name: str
    cron: str
    enabled: bool
    recurring_run_id: str


def with_seconds(cron: str) -> str:
    """A cron line as Kubeflow takes it: "0 3 * * *" -> "0 0 3 * * *"; one with six fields stays.

    Raises:
      TandemError: it has neither five fields nor six.
    """
    fields = cron.split()
    if len(fields) not in (5, 6) or not all(_FIELD.fullmatch(field) for field in fields):
        raise TandemError(
            f"--cron received {cron!r}, expected five fields (minute hour day month weekday) such as '0 3 * * *'."
        )
    return " ".join(fields if len(fields) == 6 else ["0", *fields])


def schedule(
    client: Any,
    file: str | Path,
    cron: str,
    parameters: dict[str, str] | None = None,
    namespace: str | None = None,
) -> tuple[Schedule, bool]:
    """Makes the file's pipeline recur; a schedule that is so already is left, another one of the pipeline replaced.

    A run does not start while another is under way, and what was missed is not caught up with: a run learns all
    spans that are new to the last push.

    Args:
      client: a `kfp.Client`.
      file: what `tandem kubeflow compile` wrote.
      cron: five fields, or six with seconds first.
      parameters: the pipeline's parameters as words of the command line; others keep their defaults.
      namespace: of the runs, where users have their own.

    Returns:
      The schedule, and whether anything was changed.

    Raises:
      TandemError: the cron line or a parameter is wrong.
    """
    when = with_seconds(cron)
    values = run_parameters(read_spec(file), parameters or {})
    version = upload(client, file, namespace)
    experiment = client.create_experiment(version.name, namespace=namespace).experiment_id
    found = _recurring(client, version.name, experiment)
    same = [run for run in found if _is(run, version, when, values)]
    if not same:
        made = client.create_recurring_run(
            experiment,
            version.name,
            cron_expression=when,
            max_concurrency=1,
            no_catchup=True,
            params=values,
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
        )
        same = [made]
    outdated = [run for run in found if run.recurring_run_id != same[0].recurring_run_id]
    for run in outdated:
        client.delete_recurring_run(run.recurring_run_id)
    return Schedule(version.name, when, True, same[0].recurring_run_id), bool(outdated) or same[
        0
    ] not in found


def pause(client: Any, file: str | Path, namespace: str | None = None) -> list[Schedule]:
    """Stops the pipeline's schedule from starting runs, until it is scheduled again.

    Raises:
      TandemError: the pipeline has no schedule.
    """
    name = read_spec(file)["pipelineInfo"]["name"]
    experiment = client.create_experiment(name, namespace=namespace).experiment_id
    found = _recurring(client, name, experiment)
    if not found:
        raise TandemError(f"pipeline {name!r} has no schedule to pause; make one with --cron '0 3 * * *'.")
    for run in found:
        client.disable_recurring_run(run.recurring_run_id)
    return [Schedule(name, _cron(run), False, run.recurring_run_id) for run in found]


def schedules(client: Any, namespace: str | None = None) -> list[Schedule]:
    """Every recurring run that the cluster has, page by page."""
    found: list[Schedule] = []
    page = ""
    while True:
        answer = client.list_recurring_runs(page_token=page, page_size=100, namespace=namespace)
        for run in answer.recurring_runs or []:
            found.append(Schedule(run.display_name, _cron(run), _enabled(run), run.recurring_run_id))
        page = answer.next_page_token or ""
        if not page:
            return found


def _recurring(client: Any, name: str, experiment: str) -> list[Any]:
    answer = client.list_recurring_runs(experiment_id=experiment, page_size=100, filter=named(name))
    return list(answer.recurring_runs or [])


def _is(run: Any, version: Version, when: str, values: dict[str, Any]) -> bool:
    reference, runtime = run.pipeline_version_reference, run.runtime_config
    return (
        _enabled(run)
        and _cron(run) == when
        and reference is not None
        and reference.pipeline_version_id == version.version_id
        and (runtime.parameters or {} if runtime else {}) == values
        and str(run.max_concurrency) == "1"
        and bool(run.no_catchup)
    )


def _cron(run: Any) -> str:
    trigger = run.trigger
    return trigger.cron_schedule.cron if trigger and trigger.cron_schedule else ""


def _enabled(run: Any) -> bool:
    return str(run.status or run.mode) in ("ENABLED", "ENABLE")
