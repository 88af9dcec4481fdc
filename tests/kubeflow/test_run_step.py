"""What a step's container starts: bucket URIs, types, carried files, errors of one line; and the exit step's line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kubeflow import run_step
from kubeflow.artifact_paths import local_path, localised, with_bucket_uris
from kubeflow.compile import COMMAND
from kubeflow.exit_step import outcome

ROOT = Path(__file__).parents[2]
BUCKET = "minio://mlpipeline/tandem/7"
INPUTS_SPEC = json.dumps(
    {"artifacts": {"model": {"artifactType": {"instanceSchema": "title: tfx.Model\ntype: object\n"}}}}
)


def given(uri=f"{BUCKET}/Trainer/model"):
    """ExecutorInput as the open-source backend gives it: no type in an input artifact."""
    artifact = {"name": "12", "uri": uri, "metadata": {"display_name": "model"}}
    return {
        "inputs": {"artifacts": {"model": {"artifacts": [artifact]}}},
        "outputs": {
            "artifacts": {"bundle": {"artifacts": [{"name": "bundle", "uri": f"{BUCKET}/Indexer/bundle"}]}},
            "outputFile": "/tmp/kfp_outputs/output_metadata.json",
        },
    }


@pytest.mark.parametrize(
    "uri, directory",
    [
        ("minio://mlpipeline/a", "/minio/mlpipeline/a"),
        ("s3://b/a", "/s3/b/a"),
        ("gs://b/a", "/gcs/b/a"),
        ("/mnt/a", "/mnt/a"),
    ],
)
def test_bucket_is_the_directory_to_which_the_launcher_copies_it(uri, directory):
    assert local_path(uri) == directory


def test_executor_sees_directories_and_kubeflow_is_told_uris():
    before = given()
    inside, uri_of = localised(before)
    assert (
        inside["inputs"]["artifacts"]["model"]["artifacts"][0]["uri"]
        == "/minio/mlpipeline/tandem/7/Trainer/model"
    )
    bundle = inside["outputs"]["artifacts"]["bundle"]["artifacts"][0]["uri"]
    assert bundle == "/minio/mlpipeline/tandem/7/Indexer/bundle"
    assert before == given(), "what was given is left alone"
    reported = {"artifacts": {"bundle": {"artifacts": [{"uri": bundle, "metadata": {"blessed": 1}}]}}}
    outside = with_bucket_uris(reported, uri_of)
    assert outside["artifacts"]["bundle"]["artifacts"] == [
        {"uri": f"{BUCKET}/Indexer/bundle", "metadata": {"blessed": 1}}
    ]


def test_tfx_reads_input_artifacts_only_with_the_types_that_are_added():
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils

    def read(tree):
        message = json_format.ParseDict(tree, pipeline_spec_pb2.ExecutorInput())
        return kubeflow_v2_entrypoint_utils.parse_raw_artifact_dict(message.inputs.artifacts)

    with pytest.raises(UnboundLocalError):
        read(given())
    (model,) = read(run_step._with_types(given(), INPUTS_SPEC))["model"]
    assert model.type_name == "Model" and model.uri == f"{BUCKET}/Trainer/model"


def words(tmp_path, executor, parameters, types):
    """The words of a container for a step with parameters and the output `schema`."""
    schema = {
        "name": "schema",
        "uri": str(tmp_path / "schema"),
        "type": {"instanceSchema": "title: tfx.Schema\ntype: object\n"},
    }
    executor_input = {
        "inputs": {"parameterValues": parameters},
        "outputs": {
            "artifacts": {"schema": {"artifacts": [schema]}},
            "outputFile": str(tmp_path / "out" / "output.json"),
        },
    }
    spec = {"parameters": {name: {"parameterType": kind} for name, kind in types.items()}}
    return [
        "--executor_class_path",
        executor,
        "--json_serialized_invocation_args",
        json.dumps(executor_input),
        "--json_serialized_inputs_spec_args",
        json.dumps(spec),
    ]


def test_step_runs_with_the_file_that_travels_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = words(
        tmp_path,
        "tfx.components.schema_gen.import_schema_gen.executor.Executor",
        {"schema_file": "curated_schema.pbtxt"},
        {"schema_file": "STRING"},
    )
    text = 'feature { name: "item_id" type: BYTES }\n'
    assert run_step.main([*arguments, run_step.CARRIED_FILE, "curated_schema.pbtxt", text]) == 0
    assert (tmp_path / "schema" / "schema.pbtxt").read_text() == text
    reported = json.loads((tmp_path / "out" / "output.json").read_text())
    assert reported["artifacts"]["schema"]["artifacts"][0]["uri"] == str(tmp_path / "schema")


def test_what_the_user_can_mend_is_one_line_and_nothing_is_reported(tmp_path, capsys):
    push = tmp_path / "push" / "7"
    push.mkdir(parents=True)
    (push / "saved_model.pb").write_text("not a bundle")
    arguments = words(
        tmp_path,
        "pipeline.previous_push.PreviousPush_Executor",
        {"push_dir": str(tmp_path / "push"), "version": 7},
        {"push_dir": "STRING", "version": "NUMBER_INTEGER"},
    )
    assert (
        run_step.main([word.replace('"schema": {"artifacts"', '"push": {"artifacts"') for word in arguments])
        == 2
    )
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tandem: ")]
    assert len(lines) == 1 and "PreviousPush stopped the run: " in lines[0]
    assert not (tmp_path / "out" / "output.json").exists()


def test_error_that_nobody_expected_is_raised_as_it_is(tmp_path):
    executor = "tfx.components.schema_gen.import_schema_gen.executor.Executor"
    with pytest.raises(ValueError, match="Schema file path is missing"):
        run_step.main(words(tmp_path, executor, {}, {}))


def test_exit_step_writes_its_line_into_the_containers_log(tmp_path):
    status = json.dumps({"state": "COMPLETE", "pipelineJobResourceName": "tandem-x7"})
    arguments = words(
        tmp_path,
        "kubeflow.exit_step.ReportOutcome_Executor",
        {"final_status": status},
        {"final_status": "STRING"},
    )
    arguments = [word.replace('"schema": {"artifacts"', '"unused": {"artifacts"') for word in arguments]
    done = subprocess.run(
        [sys.executable, *COMMAND[1:], *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "INFO tandem.kubeflow: run tandem-x7 succeeded" in done.stderr.splitlines()


@pytest.mark.parametrize("state", ["COMPLETE", "SUCCEEDED"])
def test_exit_step_says_that_a_run_succeeded(state):
    assert (
        outcome(json.dumps({"state": state, "pipelineJobResourceName": "tandem-x7"}))
        == "run tandem-x7 succeeded"
    )


def test_exit_step_says_how_a_run_failed():
    status = {
        "state": "FAILED",
        "pipelineJobResourceName": "p/runs/x7",
        "error": {"message": "step 'Trainer' failed"},
    }
    assert outcome(json.dumps(status)) == "run x7 ended as FAILED: step 'Trainer' failed"
    # The open-source backend leaves the message empty.
    status["error"] = {}
    assert outcome(json.dumps(status)).endswith("the step in red in the run's graph has the reason")
