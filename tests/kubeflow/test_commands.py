"""`tandem kubeflow`: found without TensorFlow, and one line for what is wrong."""

import ast
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from kubeflow.commands import add_commands
from pipeline.cli import ENTRY_POINTS, main
from tests.kubeflow.specs import READ, Spec

ROOT = Path(__file__).parents[2]


def refused(capsys, *words):
    assert main(["kubeflow", *words], more_commands=[add_commands]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("tandem: ")
    return lines[0]


def test_setup_py_names_the_function_that_adds_the_commands():
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        if isinstance(node, ast.keyword) and node.arg == "entry_points":
            name, _, target = ast.literal_eval(node.value)[ENTRY_POINTS][0].partition(" = ")
    assert name == "kubeflow"
    assert EntryPoint(name, target, ENTRY_POINTS).load() is add_commands


@pytest.mark.parametrize("action", ["compile", "run-compiled", "submit", "schedule"])
def test_help_needs_no_tensorflow(action):
    code = f"""
import sys
from kubeflow.commands import add_commands
from pipeline.cli import main
try: main(["kubeflow", "{action}", "--help"], more_commands=[add_commands])
except SystemExit as end: assert end.code == 0
sys.exit("tensorflow" in sys.modules or "tfx" in sys.modules or "kfp" in sys.modules)
"""
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode
        == 0
    )


def test_wrong_files_stop_before_anything_is_compiled(capsys, tmp_path):
    profile = str(ROOT / "pipeline" / "profiles" / "production.yaml")
    out = str(tmp_path / "p.yaml")
    line = refused(capsys, "compile", "--profile", profile, "--cluster", "none.yaml", "--out", out)
    assert "cluster file 'none.yaml' does not exist" in line
    assert list(tmp_path.iterdir()) == []


def test_parameter_that_is_no_pair(capsys):
    assert "--param received 'span', expected NAME=VALUE" in refused(
        capsys, "run-compiled", "p.yaml", "--param", "span"
    )


def test_pipeline_file_that_is_not_there(capsys):
    assert "make it with 'tandem kubeflow compile --out none.yaml'" in refused(
        capsys, "run-compiled", "none.yaml"
    )


@pytest.mark.parametrize(
    "report, status, said",
    [
        ({"version": 7, "path": "push/7", "refused": [], "gates": "g"}, 0, "pushed version 7 to push/7"),
        (
            {"version": None, "path": "", "refused": ["recall"], "gates": "g"},
            3,
            "refused, the last push serves on: recall",
        ),
        (None, 0, "no step of this pipeline pushes"),
    ],
)
def test_run_compiled_says_what_the_run_came_to(capsys, tmp_path, report, status, said):
    push = "u = e['outputs']['artifacts']['out']['artifacts'][0]['uri']; os.makedirs(u)"
    write = f"; json.dump({report}, open(u + '/push.json', 'w'))" if report else ""
    file = Spec().step("Pusher", READ + push + write).write(tmp_path / "p.yaml")
    words = ["kubeflow", "run-compiled", str(file), "--root", str(tmp_path / "root")]
    assert main(words, more_commands=[add_commands]) == status
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
