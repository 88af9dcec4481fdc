"""What `tandem serve` is told on the command line."""

from pathlib import Path

import pytest

from pipeline.cli import main
from serving import server as servers
from serving.server_options import ServerOptions

FLAGS = {
    "--push-dir": "push",
    "--model-config-file": "models.config",
    "--port": 8500,
    "--host": "127.0.0.2",
    "--max-in-flight": 7,
    "--max-message-mb": 8,
    "--rest-port": 8501,
    "--metrics-port": 9090,
    "--request-log": "requests.jsonl",
    "--prediction-log": "predictions",
    "--prediction-log-rate": 0.5,
    "--batching-parameters-file": "batching.txt",
    "--precision": "float32",
    "--cache-mb": 9,
    "--tls-cert": "cert.pem",
    "--tls-key": "key.pem",
    "--tls-client-ca": "ca.pem",
    "--tokens": "tokens",
}


def test_every_flag_reaches_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[ServerOptions] = []
    monkeypatch.setattr(servers, "serve", served.append)
    words = [str(word) for pair in FLAGS.items() for word in pair]
    assert main(["serve", *words, "--log-inputs", "--insecure"]) == 0
    fields = {flag[2:].replace("-", "_"): value for flag, value in FLAGS.items()}
    assert served == [ServerOptions(**fields, log_inputs=True, insecure=True)]
    assert main(["serve", "--push-dir", "push", "--port", "0", "--model-name", "shop"]) == 0
    assert served[1] == ServerOptions("push", 0, model_name="shop")


def test_wrong_options_are_one_line_and_nothing_is_served(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for words, line in (
        (["--host", "0.0.0.0", "--push-dir", str(tmp_path)], "--host 0.0.0.0 can be reached by others"),
        ([], "no push directory is named: name one with --push-dir or --model-config-file"),
        (["--push-dir", str(tmp_path), "--cache-mb", "-1"], "--cache-mb is -1, expected at least 0"),
    ):
        assert main(["serve", "--port", "0", *words]) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("tandem: ")
        assert line in said
