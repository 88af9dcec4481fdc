"""Executes a compiled pipeline on this machine, as Kubeflow's driver and launcher do on a cluster."""

import datetime
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from kubeflow.compiled_file import in_order, read_spec, upstream
from kubeflow.container_process import Outputs, last_line, read_outputs, run_container
from kubeflow.step_cache import StepCache, cache_key
from kubeflow.task_inputs import Scope, artifacts_of, executor_input, parameters_of, typed
from transform.errors import TandemError

_AFTER_ALL = "ALL_UPSTREAM_TASKS_COMPLETED"  # the trigger of an exit step: it runs after a failure too


class StepResult(NamedTuple):
    """How a step ended.

    Attributes:
      step: its name.
      outcome: done, cached, failed or not run.
      seconds: with all attempts.
      attempts: how often it was started.
      outputs: output -> directory; {} where there are none.
    """

    step: str
    outcome: str
    seconds: float
    attempts: int
    outputs: dict[str, str]


def run_compiled(
    file: str | Path,
    root: str | Path,
    parameters: dict[str, str] | None = None,
    console: Console | None = None,
) -> list[StepResult]:
    """Runs every step in a process of its own, in the order of the graph; the exit step also after a failure.

    Args:
      file: what `tandem kubeflow compile` wrote; images, resources and volumes are this machine's own.
      root: `<root>/<run>/<step>/<attempt>` holds outputs and log of an attempt, `<root>/cache` what can be used again.
      parameters: the pipeline's parameters as words of the command line; others keep their defaults.
      console: where progress and the table go.

    Returns:
      One result a step, in the order in which they ran.

    Raises:
      TandemError: a step failed; it is named with its last words and its log.
    """
    spec = read_spec(file)
    console = console or Console()
    values = run_parameters(spec, parameters or {})
    name = datetime.datetime.now().strftime("%Y%m%dT%H%M%S.%f")
    run = _Run(spec, os.path.abspath(root), name, console)
    try:
        run.graph(spec["root"]["dag"], Scope(values))
    finally:
        console.print(_table(run.results))
    return run.results


def run_parameters(spec: dict[str, Any], given: dict[str, str]) -> dict[str, Any]:
    """The pipeline's parameters: what is given, and defaults for the rest.

    Raises:
      TandemError: a name that the pipeline does not have, a value of another type, or no value at all.
    """
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    for name in given:
        if name not in declared:
            known = ", ".join(sorted(declared)) or "none"
            raise TandemError(f"parameter {name!r} is not one of the pipeline's; expected one of: {known}.")
    values = {}
    for name, declaration in declared.items():
        value = given.get(name, declaration.get("defaultValue"))
        if value is not None:
            values[name] = typed(name, value, declaration["parameterType"])
        elif not declaration.get("isOptional"):
            raise TandemError(
                f"parameter {name!r} has no value and no default; give one with --param {name}=VALUE."
            )
    return values


class _Run:
    """One run: where it is, what it found so far."""

    def __init__(self, spec: dict[str, Any], root: str, name: str, console: Console) -> None:
        self.results: list[StepResult] = []
        self._spec = spec
        self._directory = os.path.join(root, name)
        self._cache = StepCache(os.path.join(root, "cache"))
        self._console = console
        self._name = name
        self._total = sum(self._is_container(task) for task in self._all_tasks())

    def graph(self, dag: dict[str, Any], scope: Scope) -> None:
        """Runs the tasks of a graph; after a failure only those that wait for it to be over."""
        failure: TandemError | None = None
        for name in in_order(dag):
            task = dag["tasks"][name]
            after_all = task.get("triggerPolicy", {}).get("strategy") == _AFTER_ALL
            unfit = [other for other in upstream(task) if scope.status[other]["state"] != "COMPLETE"]
            if (failure or unfit) and not after_all:
                scope.status[name] = self._status(name, "CANCELED", "")
                self._not_run(name, task)
                continue
            try:
                self._task(name, task, scope)
                scope.status[name] = self._status(name, "COMPLETE", "")
            except TandemError as error:
                failure = failure or error
                scope.status[name] = self._status(name, "FAILED", str(error))
        if failure:
            raise failure

    def _task(self, name: str, task: dict[str, Any], scope: Scope) -> None:
        if any(key in task for key in ("parameterIterator", "artifactIterator")) or task.get(
            "triggerPolicy", {}
        ).get("condition"):
            raise TandemError(f"step {name!r} is a loop or has a condition; expected a plain step.")
        component = self._spec["components"][task["componentRef"]["name"]]
        parameters = parameters_of(name, task, component, scope)
        if "dag" in component:
            self.graph(component["dag"], Scope(parameters))
            return
        executor = self._spec["deploymentSpec"]["executors"][component["executorLabel"]]
        if "container" not in executor:
            raise TandemError(
                f"step {name!r} has no container ({', '.join(executor)}); expected one to start."
            )
        outputs = self._container(name, task, component, executor["container"], parameters, scope)
        scope.artifacts[name] = outputs.artifacts
        scope.outputs[name] = outputs.parameters

    def _container(
        self,
        name: str,
        task: dict[str, Any],
        component: dict[str, Any],
        container: dict[str, Any],
        parameters: dict[str, Any],
        scope: Scope,
    ) -> Outputs:
        self._console.print(
            f"[{len(self.results) + 1:2}/{self._total}] {name} ...", markup=False, highlight=False
        )
        artifacts = artifacts_of(task, scope)
        key = cache_key(container, component, parameters, artifacts)
        may_cache = task.get("cachingOptions", {}).get("enableCache", False)
        cached = self._cache.get(key) if may_cache else None
        if cached is not None:
            self._end(name, "cached", 0.0, 0, cached)
            return cached
        started = time.monotonic()
        policy = task.get("retryPolicy", {})
        attempts = 1 + int(policy.get("maxRetryCount", 0))
        for attempt in range(1, attempts + 1):
            directory = os.path.join(self._directory, name, str(attempt))
            given = executor_input(name, component, parameters, artifacts, directory)
            try:
                status = run_container(container, given, directory)
                outputs = read_outputs(given) if status == 0 else None
            except TandemError as error:
                self._end(name, "failed", time.monotonic() - started, attempt, Outputs({}, {}))
                raise TandemError(f"step {name!r}: {error}") from error
            if outputs is not None:
                if may_cache:
                    self._cache.put(key, outputs)
                self._end(name, "done", time.monotonic() - started, attempt, outputs)
                return outputs
            self._console.print(
                f"        attempt {attempt} of {attempts} failed: {last_line(directory)}",
                markup=False,
                highlight=False,
            )
            if attempt < attempts:
                time.sleep(_backoff(policy, attempt))
        self._end(name, "failed", time.monotonic() - started, attempts, Outputs({}, {}))
        raise TandemError(
            f"step {name!r} failed after {attempts} attempt(s) with exit status {status}: {last_line(directory)}"
            f" The whole log is in {os.path.join(directory, 'log.txt')}."
        )

    def _end(self, name: str, outcome: str, seconds: float, attempts: int, outputs: Outputs) -> None:
        uris = {key: artifact["uri"] for key, artifact in outputs.artifacts.items()}
        self.results.append(StepResult(name, outcome, seconds, attempts, uris))
        said = outcome if outcome == "cached" else f"{outcome} in {seconds:.1f} s"
        self._console.print(f"        {said}", highlight=False)

    def _not_run(self, name: str, task: dict[str, Any]) -> None:
        if self._is_container(task):
            self.results.append(StepResult(name, "not run", 0.0, 0, {}))

    def _status(self, name: str, state: str, message: str) -> dict[str, Any]:
        return {
            "state": state,
            "error": {"message": message} if message else {},
            "pipelineJobResourceName": self._name,
            "pipelineTaskName": name,
        }

    def _all_tasks(self) -> list[dict[str, Any]]:
        dags = [self._spec["root"], *self._spec["components"].values()]
        return [task for dag in dags for task in dag.get("dag", {}).get("tasks", {}).values()]

    def _is_container(self, task: dict[str, Any]) -> bool:
        return "dag" not in self._spec["components"][task["componentRef"]["name"]]


def _backoff(policy: dict[str, Any], attempt: int) -> float:
    """Seconds to wait after an attempt: the first wait, multiplied by the factor each time, up to the longest."""
    first = float(str(policy.get("backoffDuration", "0s")).rstrip("s"))
    longest = float(str(policy.get("backoffMaxDuration", "3600s")).rstrip("s"))
    return float(min(first * policy.get("backoffFactor", 2.0) ** (attempt - 1), longest))


def _table(results: list[StepResult]) -> Table:
    table = Table(title="compiled pipeline")
    table.add_column("step")
    table.add_column("outcome")
    table.add_column("seconds", justify="right")
    table.add_column("attempts", justify="right")
    for result in results:
        seconds = f"{result.seconds:.1f}" if result.attempts else ""
        table.add_row(result.step, result.outcome, seconds, str(result.attempts or ""))
    return table
