"""Tiny compiled pipelines, executed: order, placeholders, parameters, caching, retries and failure."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from kubeflow.run_compiled import run_compiled
from tests.kubeflow.specs import READ, WRITE, Spec
from transform.errors import TandemError

CACHED = {"cachingOptions": {"enableCache": True}}
FIRST = "e['inputs']['artifacts']['first']['artifacts'][0]"
COPY = f"{READ} {WRITE}(open({FIRST}['uri']).read() + '+')"


def run(spec, tmp_path, **parameters):
    """Results by step, and what was shown."""
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    results = run_compiled(spec.write(tmp_path / "p.yaml"), tmp_path / "root", parameters, console)
    return {result.step: result for result in results}, shown.getvalue()


def written(result):
    return Path(result.outputs["out"]).read_text()


def failed(spec, tmp_path, **parameters):
    shown = io.StringIO()
    with pytest.raises(TandemError) as error:
        run_compiled(
            spec.write(tmp_path / "p.yaml"), tmp_path / "root", parameters, Console(file=shown, width=200)
        )
    assert "\n" not in str(error.value)
    return str(error.value), shown.getvalue()


def test_steps_run_after_what_they_take_and_get_its_artifacts(tmp_path):
    spec = Spec()
    spec.step("a-last", COPY.replace("first", "second"), inputs=["second"])
    spec.step("second", COPY, inputs=["first"])
    spec.step("first", f"{READ} {WRITE}('x')")
    results, shown = run(spec, tmp_path)
    assert list(results) == ["first", "second", "a-last"]
    assert written(results["a-last"]) == "x++"
    assert "[ 3/3] a-last" in shown and shown.count("done") == 6  # as it goes, and in the table


def test_step_that_only_waits_for_another_runs_after_it(tmp_path):
    results, _ = run(Spec().step("a", "", after=["b"]).step("b", ""), tmp_path)
    assert list(results) == ["b", "a"]


def test_input_artifact_has_number_and_metadata_but_no_type_as_on_a_cluster(tmp_path):
    report = """
with open(e['outputs']['outputFile'], 'w') as f:
    json.dump({'artifacts': {'out': {'artifacts': [{'metadata': {'blessed': 1}}]}}}, f)
"""
    spec = Spec().step("first", READ + report)
    spec.step("second", f"{READ} {WRITE}(json.dumps({FIRST}))", inputs=["first"])
    results, _ = run(spec, tmp_path)
    given = json.loads(written(results["second"]))
    assert set(given) == {"name", "uri", "metadata"}
    assert given["name"].isdigit()
    assert given["metadata"] == {"display_name": "first", "blessed": 1} | {"display_name": "out"}


def test_placeholders_are_filled_each_with_its_value(tmp_path):
    args = [
        "{{$}}",
        "--n={{$.inputs.parameters['n']}}",
        "{{$.inputs.artifacts['first'].uri}}",
        "{{$.outputs.artifacts['out'].path}}",
    ]
    spec = Spec().step("first", f"{READ} {WRITE}('x')")
    spec.step(
        "second",
        f"{READ} {WRITE}(json.dumps(sys.argv[2:]))",
        inputs=["first"],
        args=args,
        parameters={"n": {"runtimeValue": {"constant": 7.0}}},
        kinds={"n": "NUMBER_INTEGER"},
    )
    results, _ = run(spec, tmp_path)
    uris = [results["first"].outputs["out"], results["second"].outputs["out"]]
    assert json.loads(written(results["second"])) == ["--n=7", *uris]


def test_unknown_placeholder_is_named(tmp_path):
    said, _ = failed(Spec().step("first", "", args=["{{$.inputs.parameters['m']}}"]), tmp_path)
    assert "{{$.inputs.parameters['m']}} has no value" in said


def span_spec():
    spec = Spec().parameter("span", "NUMBER_INTEGER", defaultValue=-1.0, isOptional=True)
    return spec.step(
        "first",
        f"{READ} {WRITE}(json.dumps(e['inputs']['parameterValues']))",
        parameters={"span": {"componentInputParameter": "span"}},
        kinds={"span": "NUMBER_INTEGER"},
    )


def test_parameter_is_its_default_or_what_is_given(tmp_path):
    results, _ = run(span_spec(), tmp_path)
    assert written(results["first"]) == '{"span": -1}'
    results, _ = run(span_spec(), tmp_path, span="2")
    assert written(results["first"]) == '{"span": 2}'


@pytest.mark.parametrize(
    "given, said",
    [
        ({"spam": "2"}, "parameter 'spam' is not one of the pipeline's; expected one of: span."),
        ({"span": "two"}, "parameter span received 'two', expected a value of type NUMBER_INTEGER"),
        ({"span": "2.5"}, "received '2.5'"),
    ],
)
def test_wrong_parameter_stops_before_anything_runs(tmp_path, given, said):
    message, _ = failed(span_spec(), tmp_path, **given)
    assert said in message
    assert not (tmp_path / "root").exists()


def test_parameter_without_value_and_default(tmp_path):
    said, _ = failed(Spec().parameter("span", "NUMBER_INTEGER").step("first", ""), tmp_path)
    assert "give one with --param span=VALUE" in said


def test_cached_step_runs_again_only_when_its_inputs_change(tmp_path):
    spec = Spec().parameter("word", "STRING", defaultValue="x")
    word = {"word": {"componentInputParameter": "word"}}
    spec.step("first", f"{READ} {WRITE}(e['inputs']['parameterValues']['word'])", parameters=word, **CACHED)
    spec.step("second", COPY, inputs=["first"], **CACHED)
    spec.step("always", COPY, inputs=["first"])

    def outcomes(**parameters):
        results, _ = run(spec, tmp_path, **parameters)
        return [results[name].outcome for name in ("first", "second", "always")], written(results["second"])

    assert outcomes() == (["done", "done", "done"], "x+")
    assert outcomes() == (["cached", "cached", "done"], "x+")
    assert outcomes(word="y") == (["done", "done", "done"], "y+")
    assert outcomes() == (["cached", "cached", "done"], "x+")


def test_cached_output_that_is_gone_is_made_again(tmp_path):
    spec = Spec().step("first", f"{READ} {WRITE}('x')", **CACHED)
    results, _ = run(spec, tmp_path)
    Path(results["first"].outputs["out"]).unlink()
    results, _ = run(spec, tmp_path)
    assert results["first"].outcome == "done" and written(results["first"]) == "x"


def test_step_is_tried_again_as_often_as_the_file_says(tmp_path):
    counter = tmp_path / "count"
    counter.write_text("")
    code = f"{READ} p = {str(counter)!r}; n = len(open(p).read()); open(p, 'a').write('.'); {WRITE}('x'); sys.exit(n < 2)"
    enough = Spec().step("first", code, retryPolicy={"maxRetryCount": 2, "backoffDuration": "0s"})
    results, shown = run(enough, tmp_path)
    assert results["first"].attempts == 3 and "attempt 2 of 3 failed" in shown
    counter.write_text("")
    said, _ = failed(Spec().step("first", code, retryPolicy={"maxRetryCount": 1}), tmp_path)
    assert "step 'first' failed after 2 attempt(s) with exit status 1" in said


def failing():
    spec = Spec().step("train", "import sys; print('tandem: too few rows', file=sys.stderr); sys.exit(2)")
    return spec.step("push", f"{READ} {WRITE}('pushed')", inputs=["train"])


def test_failure_names_the_step_with_its_own_words_and_nothing_after_it_runs(tmp_path):
    said, shown = failed(failing(), tmp_path)
    assert said.startswith(
        "step 'train' failed after 1 attempt(s) with exit status 2: too few rows The whole log"
    )
    assert "not run" in shown
    assert list((tmp_path / "root").glob("*/push")) == []


def test_step_ends_when_the_run_is_killed(tmp_path):
    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    file = Spec().step("first", code).write(tmp_path / "p.yaml")
    run = subprocess.Popen(
        [sys.executable, "-m", "kubeflow", "run-compiled", str(file), "--root", str(tmp_path / "root")],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
    )
    wait_until(lambda: pid_file.exists() and pid_file.read_text())
    assert is_running(int(pid_file.read_text()))
    run.kill()
    run.wait()
    wait_until(lambda: not is_running(int(pid_file.read_text())))


def wait_until(there, seconds=30):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_failed_step_is_not_cached(tmp_path):
    ran = tmp_path / "ran"
    spec = Spec().step("first", f"import sys; open({str(ran)!r}, 'a').write('x'); sys.exit(1)", **CACHED)
    failed(spec, tmp_path)
    once = len(ran.read_text())
    failed(spec, tmp_path)
    assert len(ran.read_text()) == 2 * once > 0


def test_exit_step_runs_after_a_failure_and_is_told_which_step_it_was(tmp_path):
    said_file = tmp_path / "said.json"
    spec = failing()
    inner, spec.tree["root"]["dag"] = spec.tree["root"]["dag"], {"tasks": {}}
    spec.step(
        "exit",
        f"{READ} open({str(said_file)!r}, 'w').write(e['inputs']['parameterValues']['final_status'])",
        after=["steps"],
        parameters={"final_status": {"taskFinalStatus": {"producerTask": "steps"}}},
        triggerPolicy={"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"},
    )
    spec.tree["components"]["steps"] = {"dag": inner}
    spec.tree["root"]["dag"]["tasks"]["steps"] = {"componentRef": {"name": "steps"}}
    said, shown = failed(spec, tmp_path)
    assert "step 'train' failed" in said
    status = json.loads(said_file.read_text())
    assert status["state"] == "FAILED" and "step 'train' failed" in status["error"]["message"]
    assert "[ 2/3] exit" in shown or "[ 3/3] exit" in shown


def counting(code):
    """`count` writes its output parameter `n`, `use` takes it."""
    spec = Spec().step("count", code)
    spec.tree["components"]["count"]["outputDefinitions"]["parameters"] = {
        "n": {"parameterType": "NUMBER_INTEGER"}
    }
    taken = {"n": {"taskOutputParameter": {"producerTask": "count", "outputParameterKey": "n"}}}
    show = f"{READ} {WRITE}(json.dumps(e['inputs']['parameterValues']))"
    return spec.step("use", show, parameters=taken, kinds={"n": "NUMBER_INTEGER"})


def test_output_parameter_is_handed_on_from_its_file_or_from_the_report(tmp_path):
    in_file = f"{READ} open(e['outputs']['parameters']['n']['outputFile'], 'w').write('5')"
    results, _ = run(counting(in_file), tmp_path)
    assert written(results["use"]) == '{"n": 5}'
    in_report = f"{READ} json.dump({{'parameterValues': {{'n': 6}}}}, open(e['outputs']['outputFile'], 'w'))"
    results, _ = run(counting(in_report), tmp_path)
    assert written(results["use"]) == '{"n": 6}'


def test_output_parameter_that_was_not_written_fails_its_step(tmp_path):
    said, _ = failed(counting("pass"), tmp_path)
    assert said.startswith("step 'count': output parameter 'n' was not written")


@pytest.mark.parametrize(
    "after, said",
    [
        (["nobody"], "step 'first' waits for 'nobody', which is not in the pipeline"),
        (["first"], "steps wait for each other"),
    ],
)
def test_order_that_cannot_be(tmp_path, after, said):
    message, _ = failed(Spec().step("first", "", after=after), tmp_path)
    assert said in message


def test_command_that_is_not_there(tmp_path):
    spec = Spec().step("first", "")
    spec.tree["deploymentSpec"]["executors"]["first"]["container"]["command"] = ["no-such-command"]
    said, _ = failed(spec, tmp_path)
    assert "command ['no-such-command'] cannot be started" in said


@pytest.mark.parametrize("task", [{"parameterIterator": {}}, {"triggerPolicy": {"condition": "1 == 1"}}])
def test_loops_and_conditions_are_refused_rather_than_ignored(tmp_path, task):
    said, _ = failed(Spec().step("first", "", **task), tmp_path)
    assert "is a loop or has a condition" in said


def test_file_that_is_no_pipeline(tmp_path):
    (tmp_path / "p.yaml").write_text("pipelineInfo: {}\n")
    with pytest.raises(TandemError, match="has no root, components, deploymentSpec; expected what"):
        run_compiled(tmp_path / "p.yaml", tmp_path)
