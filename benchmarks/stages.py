"""The first components of a profile's graph, run here as `tandem run` does, so that one can be compared or measured by itself."""

import logging
import os
import resource
import time
from pathlib import Path
from typing import NamedTuple

from pipeline.settings import Settings, load_settings
from transform.runtime import prepare_environment


class Cost(NamedTuple):
    """What one component cost, its own work alone: neither imports nor what came from the cache.

    Attributes:
      seconds: of wall clock.
      cpu_seconds: of this process and of worker processes that have ended.
      memory_mb: the most that this process held while the component ran, 10^6 bytes.
      start_mb: what it held before.
    """

    seconds: float
    cpu_seconds: float
    memory_mb: float
    start_mb: float


def run_up_to(settings: Settings, component: str) -> dict[str, dict[str, str]]:
    """Runs the graph from the start up to one component, from scratch on the newest span.

    What an earlier call ran in the same pipeline root comes from the cache, so the last component is all that costs.

    Args:
      settings: the profile; every Beam stage gets its `beam_args`.
      component: where to stop, such as InteractionGen.

    Returns:
      component -> output name -> artifact directory.
    """
    from tfx.dsl.compiler import compiler, constants
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner
    from tfx.orchestration.portable import runtime_parameter_utils

    from pipeline.graph import create_pipeline
    from pipeline.run_report import output_uris
    from towers.precision import make_strategy
    from transform.dataset import fingerprint
    from transform.schema import write_schema

    make_strategy(settings.training)  # its devices cannot be made once TensorFlow has run anything
    root = os.path.abspath(settings.paths.pipeline_root)
    os.makedirs(root, exist_ok=True)
    pipeline = create_pipeline(
        settings,
        schema_file=write_schema(settings.features, os.path.join(root, "curated_schema"), settings.bad_days),
        previous_version=0,
        input_fingerprint=fingerprint(settings.data.dataset, -1),
    )
    graph = compiler.Compiler().compile(pipeline)
    run_id = f"{component}-{time.time_ns()}"
    runtime_parameter_utils.substitute_runtime_parameter(
        graph, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    names = [node.pipeline_node.node_info.id for node in graph.nodes]
    for node in graph.nodes[names.index(component) + 1 :]:
        node.pipeline_node.execution_options.skip.SetInParent()
    LocalDagRunner().run_with_ir(graph)
    return output_uris(os.path.join(root, "metadata.sqlite"), run_id)


def measure(profile: str, component: str) -> tuple[Cost, dict[str, dict[str, str]]]:
    """Runs up to a component and measures it; call it in a process of its own, and on Linux.

    Args:
      profile: path of the YAML file.
      component: must not be in the cache, what is before it should be.
    """
    prepare_environment()
    from absl import logging as absl_logging

    meter = _Meter(component)
    logger = absl_logging.get_absl_logger()
    absl_logging.set_verbosity(absl_logging.INFO)
    logger.handlers[:] = [meter]
    logger.propagate = False
    uris = run_up_to(load_settings(profile), component)
    return meter.cost(), uris


class _Meter(logging.Handler):
    """Looks at clocks and memory when LocalDagRunner says that the component starts, and when it ends."""

    def __init__(self, component: str) -> None:
        super().__init__(logging.INFO)
        self._component = component
        self._marks: dict[str, tuple[float, float, float]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        for message, field in (("Component %s is running.", "VmRSS"), ("Component %s is finished.", "VmHWM")):
            if record.msg == message and record.args == (self._component,):
                if field == "VmRSS":
                    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
                self._marks[field] = (time.monotonic(), _cpu_seconds(), _memory_mb(field))

    def cost(self) -> Cost:
        start, end = self._marks["VmRSS"], self._marks["VmHWM"]
        return Cost(end[0] - start[0], end[1] - start[1], end[2], start[2])


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _memory_mb(field: str) -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6
