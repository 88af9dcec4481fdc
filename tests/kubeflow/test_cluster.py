"""Submitting and scheduling, over HTTP: what the cluster is sent, that it is sent once, and what failures say."""

import socket
from pathlib import Path

import pytest

from kubeflow.commands import add_commands
from kubeflow.connection import connected
from kubeflow.schedule import with_seconds
from kubeflow.submit import submit
from pipeline.cli import main
from tests.kubeflow.api_server import ApiServer, checked
from tests.kubeflow.specs import Spec
from transform.errors import TandemError


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setattr("kfp.client.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "no-context.json"))
    server = ApiServer()
    yield server
    server.stop()
    assert server.problems == []


@pytest.fixture
def file(tmp_path):
    return write(tmp_path)


def write(tmp_path, code="pass"):
    spec = Spec().parameter("span", "NUMBER_INTEGER", defaultValue=-1.0, isOptional=True).step("first", code)
    path = spec.write(tmp_path / "p.yaml")
    path.write_text(path.read_text() + "---\nplatforms: {kubernetes: {}}\n")
    return str(path)


def kubeflow(*words):
    return main(["kubeflow", *words], more_commands=[add_commands])


def refused(capsys, *words):
    assert kubeflow(*words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("tandem: "), lines
    return lines[0]


def test_first_submission_uploads_the_file_and_runs_it_with_its_parameters(server, file, capsys):
    assert kubeflow("submit", file, "--host", server.host, "--param", "span=3") == 0
    (run,), (version,) = server.runs, server.versions
    assert [one["display_name"] for one in server.pipelines] == ["tiny"]
    assert version["display_name"].startswith("tiny-") and version["pipeline_id"] == "pipelines-0"
    assert run["runtime_config"] == {"parameters": {"span": 3}}
    assert run["pipeline_version_reference"] == {
        "pipeline_id": "pipelines-0",
        "pipeline_version_id": "version-0",
    }
    assert run["experiment_id"] == server.experiments[0]["experiment_id"]
    said = capsys.readouterr().out
    assert "uploaded" in said and "run runs-0 started" in said


def test_same_submission_is_one_run_while_it_is_under_way(server, file, capsys):
    for _ in range(2):
        assert kubeflow("submit", file, "--host", server.host) == 0
    assert (len(server.pipelines), len(server.versions), len(server.runs)) == (1, 1, 1)
    assert "run runs-0 is under way already" in capsys.readouterr().out
    server.runs[0]["state"] = "FAILED"
    assert kubeflow("submit", file, "--host", server.host) == 0
    assert (len(server.versions), len(server.runs)) == (1, 2), "what has ended may be run again"


def test_other_span_is_another_run_and_a_changed_file_another_version(server, file, tmp_path):
    for span in ("1", "2"):
        assert kubeflow("submit", file, "--host", server.host, "--param", f"span={span}") == 0
    assert (len(server.versions), len(server.runs)) == (1, 2)
    changed = write(tmp_path, "print()")
    assert kubeflow("submit", changed, "--host", server.host, "--param", "span=2") == 0
    assert (len(server.pipelines), len(server.versions), len(server.runs)) == (1, 2, 3)


def test_wrong_parameter_sends_nothing(server, file, capsys):
    assert "parameter 'spam' is not one" in refused(
        capsys, "submit", file, "--host", server.host, "--param", "spam=1"
    )
    assert server.pipelines == []


def test_schedule_never_overlaps_and_does_not_catch_up(server, file, capsys):
    assert kubeflow("schedule", file, "--host", server.host, "--cron", "0 3 * * *") == 0
    (run,) = server.recurring
    assert run["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert (str(run["max_concurrency"]), run["no_catchup"], run["mode"]) == ("1", True, "ENABLE")
    assert run["runtime_config"] == {"parameters": {"span": -1}}
    assert "tiny runs at '0 0 3 * * *'" in capsys.readouterr().out


def test_same_schedule_is_left_and_another_one_replaces_it(server, file, capsys):
    for _ in range(2):
        assert kubeflow("schedule", file, "--host", server.host, "--cron", "0 3 * * *") == 0
    assert [run["recurring_run_id"] for run in server.recurring] == ["recurring-0"]
    assert "as it did" in capsys.readouterr().out
    assert kubeflow("schedule", file, "--host", server.host, "--cron", "30 4 * * *") == 0
    assert [run["trigger"]["cron_schedule"]["cron"] for run in server.recurring] == ["0 30 4 * * *"]


def test_pause_stops_the_schedule_and_cron_starts_it_again(server, file, capsys):
    words = ("schedule", file, "--host", server.host)
    assert "has no schedule to pause" in refused(capsys, *words, "--pause")
    assert kubeflow(*words, "--cron", "0 3 * * *") == 0
    assert kubeflow(*words, "--pause") == 0
    assert [run["status"] for run in server.recurring] == ["DISABLED"]
    capsys.readouterr()
    assert kubeflow("schedule", "--list", "--host", server.host) == 0
    assert capsys.readouterr().out == "tiny  0 0 3 * * *  paused  recurring-0\n"
    assert kubeflow(*words, "--cron", "0 3 * * *") == 0
    assert [run["status"] for run in server.recurring] == ["ENABLED"]


def test_list_without_schedules(server, capsys):
    assert kubeflow("schedule", "--list", "--host", server.host) == 0
    assert capsys.readouterr().out == "no schedules\n"


def test_list_shows_every_page(server, tmp_path, capsys):
    server.page = 1
    for name in ("tiny", "other"):
        path = write(tmp_path)
        text = Path(path).read_text().replace("name: tiny", f"name: {name}")
        Path(path).write_text(text)
        assert kubeflow("schedule", path, "--host", server.host, "--cron", "0 3 * * *") == 0
    capsys.readouterr()
    assert kubeflow("schedule", "--list", "--host", server.host) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["tiny", "other"]


def test_namespace_is_sent_along_where_users_have_their_own(server, file):
    assert kubeflow("submit", file, "--host", server.host, "--namespace", "team-a") == 0
    assert server.pipelines[0]["namespace"] == server.experiments[0]["namespace"] == "team-a"


def test_token_is_needed_and_sent(server, file, tmp_path, capsys):
    server.token = "open-sesame"
    line = refused(capsys, "submit", file, "--host", server.host)
    assert "refused the log-in (status 401, 'no valid token')" in line and "--token-file" in line
    (tmp_path / "token").write_text("open-sesame\n")
    assert kubeflow("submit", file, "--host", server.host, "--token-file", str(tmp_path / "token")) == 0
    assert "cannot be read or is empty" in refused(
        capsys, "submit", file, "--host", server.host, "--token-file", str(tmp_path / "none")
    )


@pytest.mark.parametrize(
    "status, said",
    [
        (403, "refused the log-in (status 403, 'it was told to')"),
        (404, "does not know what was asked for"),
        (409, "has something else of that name already"),
        (500, "failed (status 500"),
        (503, "look at the log of ml-pipeline"),
        (400, "did not take the request (status 400"),
    ],
)
def test_refused_upload_says_why_and_runs_nothing(server, file, capsys, status, said):
    server.fail["/pipelines/upload_version"] = status
    assert said in refused(capsys, "submit", file, "--host", server.host)
    assert server.runs == []
    server.fail.clear()
    assert kubeflow("submit", file, "--host", server.host) == 0
    assert (len(server.pipelines), len(server.versions)) == (1, 1)


def test_slow_host(server, file):
    with (
        pytest.raises(TandemError, match="did not answer within 0.3 seconds"),
        connected(server.host, seconds=(1, 0.3)) as client,
    ):
        server.delay = 1.0
        submit(client, file)
    server.delay = 0.0


def test_host_that_is_slow_from_the_start(server):
    server.delay = 1.0
    with pytest.raises(TandemError, match="did not answer within"), connected(server.host, seconds=(1, 0.3)):
        pass
    server.delay = 0.0


def test_host_that_is_not_there(file, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{free.getsockname()[1]}"
    line = refused(capsys, "submit", file, "--host", host)
    assert "is not reachable" in line and "port-forward" in line
    assert "is no URL" in refused(capsys, "submit", file, "--host", "localhost:8888")


@pytest.mark.parametrize("cron", ["", "0 3 * *", "0 3 * * * * *", "0 3 * * ;"])
def test_wrong_cron_line(cron):
    with pytest.raises(TandemError, match="expected five fields"):
        with_seconds(cron)


def test_schedule_without_a_file(capsys, server):
    assert "received no pipeline file" in refused(capsys, "schedule", "--host", server.host, "--pause")


def test_server_of_these_tests_refuses_a_body_that_is_not_the_apis():
    with pytest.raises(AssertionError, match="is no V2beta1RecurringRun"):
        checked({"display_name": "a", "cron": "0 3 * * *"}, "V2beta1RecurringRun")
