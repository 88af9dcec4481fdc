"""Profiles for Beam clusters: production.yaml with options that Beam knows and workers that it can reach."""

import re
from pathlib import Path

import pytest
import yaml
from apache_beam.options import pipeline_options
from apache_beam.transforms import environments

from pipeline.settings import load_settings

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "pipeline" / "profiles"
CLUSTERS = ("flink", "spark", "dataflow")
WORKER_IMAGE = (ROOT / "kubeflow" / "beam-worker.Dockerfile").read_text()


def beam_args(cluster):
    return load_settings(PROFILES / f"{cluster}.yaml").beam_args


def options_of(words):
    return pipeline_options.PipelineOptions(list(words))


def unknown(words):
    """Option names that no part of Beam declares: they would be passed over with a line in a log."""
    known = {
        name for action in every_action() for name in (text.lstrip("-") for text in action.option_strings)
    }
    return [word for word in words if word.split("=")[0].lstrip("-") not in known]


def every_action():
    for kind in pipeline_options.PipelineOptions.__subclasses__():
        parser = pipeline_options._BeamArgumentParser(allow_abbrev=False)
        kind._add_argparse_args(parser)
        yield from parser._actions


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_beam_knows_every_option(cluster):
    assert unknown(beam_args(cluster)) == []
    assert unknown(["--runner=FlinkRunner", "--flink_mister=x"]) == ["--flink_mister=x"]


@pytest.mark.parametrize(
    ("cluster", "runner"),
    [("flink", "FlinkRunner"), ("spark", "SparkRunner"), ("dataflow", "DataflowRunner")],
)
def test_the_runner_is_the_cluster_s_and_tfx_packs_nothing(cluster, runner):
    from tfx.utils.dependency_utils import make_beam_dependency_flags

    words = list(beam_args(cluster))
    assert options_of(words).view_as(pipeline_options.StandardOptions).runner == runner
    assert make_beam_dependency_flags(words) == words


@pytest.mark.parametrize("cluster", ["flink", "spark"])
def test_workers_come_from_the_pool_beside_each_node(cluster):
    portable = options_of(beam_args(cluster)).view_as(pipeline_options.PortableOptions)
    environment = environments.Environment.from_options(portable)
    assert isinstance(environment, environments.ExternalEnvironment)
    assert environment.url == "localhost:50000"


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_workers_run_the_image_that_is_built_for_them_with_the_locked_beam(cluster):
    image = options_of(beam_args(cluster)).view_as(pipeline_options.WorkerOptions).sdk_container_image
    assert image.endswith(re.search(r"-t (\S+)", WORKER_IMAGE)[1])
    locked = re.search(r"^apache-beam==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)[1]
    assert re.search(r"^FROM apache/beam_python3\.10_sdk:(\S+)", WORKER_IMAGE, re.MULTILINE)[1] == locked
    jars = [word for word in beam_args(cluster) if word.endswith(".jar")]
    assert all(jar.endswith(f"-{locked}.jar") for jar in jars)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_nothing_but_place_and_beam_differs_from_production(cluster):
    theirs, ours = (
        yaml.safe_load((PROFILES / f"{name}.yaml").read_text()) for name in ("production", cluster)
    )
    del ours["beam_args"]
    for tree in (theirs, ours):
        del tree["name"], tree["paths"], tree["data"]["dataset"], tree["encoder"]["preset"]
    assert ours == theirs


def test_every_beam_stage_gets_the_profile_s_options():
    from tfx.dsl.compiler.compiler import Compiler
    from tfx.proto.orchestration import executable_spec_pb2, pipeline_pb2

    from pipeline.graph import create_pipeline

    settings = load_settings(PROFILES / "flink.yaml")
    graph = Compiler().compile(create_pipeline(settings, schema_file="schema.pbtxt"))
    config = pipeline_pb2.IntermediateDeploymentConfig()
    graph.deployment_config.Unpack(config)
    given = {}
    for name, packed in config.executor_specs.items():
        spec = executable_spec_pb2.BeamExecutableSpec()
        if packed.Unpack(spec):
            given[name] = list(spec.beam_pipeline_args)
    beam_stages = {"InteractionGen", "StatisticsGen", "Transform", "CatalogIndexer", "Evaluator"}
    assert beam_stages <= set(given)
    assert {name: words for name, words in given.items() if words != list(settings.beam_args)} == {}
