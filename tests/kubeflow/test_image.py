"""The container image, as far as its files tell: it can be built from this checkout and starts what is compiled."""

import ast
import importlib.util
import json
import re
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from kubeflow.artifact_paths import local_path
from kubeflow.compile import COMMAND
from kubeflow.deployment import ENVIRONMENT

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "kubeflow" / "Dockerfile").read_text()


def instructions(text):
    """(word, rest) for each instruction, lines that are continued in one."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def of(word, text=DOCKERFILE):
    return [rest for name, rest in instructions(text) if name == word]


def copied():
    """Sources from the checkout."""
    plain = [rest.split()[:-1] for rest in of("COPY") if not rest.startswith("--from=")]
    return [source for sources in plain for source in sources]


def runs_as_root(text):
    users = of("USER", text)
    return not users or users[-1].split(":")[0] in ("root", "0")


def test_everything_that_is_copied_is_in_the_checkout():
    assert copied()
    assert [source for source in copied() if not (ROOT / source).exists()] == []


def test_everything_that_is_copied_is_let_through_and_nothing_else():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    let_through = {line[1:] for line in lines if line.startswith("!")}
    assert let_through == {source.split("/")[0] for source in copied()}


def test_every_package_of_the_project_is_copied():
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        if isinstance(node, ast.Assign) and node.targets[0].id == "FOLDERS":
            assert set(ast.literal_eval(node.value)) <= set(copied())
            return
    pytest.fail("setup.py has no FOLDERS")


def test_base_is_an_official_image_of_the_projects_python():
    bases = [rest.split()[0] for rest in of("FROM")]
    assert bases and all(re.fullmatch(r"python:3\.10-slim-\w+", base) for base in bases)


def test_container_starts_the_module_that_steps_are_compiled_for():
    (entry,) = of("ENTRYPOINT")
    assert tuple(json.loads(entry)) == COMMAND
    assert importlib.util.find_spec(COMMAND[-1]) is not None


def test_user_is_not_root():
    assert not runs_as_root(DOCKERFILE)
    assert runs_as_root(DOCKERFILE.replace("USER 1000", ""))
    assert runs_as_root(DOCKERFILE.replace("USER 1000", "USER 1000\nUSER root"))


def test_user_can_write_where_the_launcher_puts_artifacts():
    (made,) = [rest for rest in of("RUN") if "install --directory --mode 1777" in rest]
    directories = made.split("1777")[1].split()
    assert {str(Path(local_path(f"{scheme}://bucket")).parent) for scheme in ("minio", "s3", "gs")} <= set(
        directories
    )
    assert of("WORKDIR")[-1] in directories, "the curated schema is written there"


def test_packages_are_the_lock_and_nothing_is_resolved():
    installs = [command for rest in of("RUN") for command in re.findall(r"pip install [^;&]*", rest)]
    assert len(installs) == 4
    assert all("--no-deps" in command for command in installs)
    assert any("--requirement /tandem/requirements.lock" in command for command in installs)


def test_environment_is_what_steps_are_compiled_with():
    environment = dict(pair.split("=", 1) for pair in " ".join(of("ENV")).split())
    assert {key: environment[key] for key in ENVIRONMENT} == ENVIRONMENT


def test_gpu_variant_has_the_cuda_libraries_that_tensorflow_asks_for():
    asked = [Requirement(line) for line in requires("tensorflow")]
    cuda = {
        f"{one.name}{one.specifier}"
        for one in asked
        if one.marker and one.marker.evaluate({"extra": "and-cuda"})
    }
    cuda = {line for line in cuda if line.startswith("nvidia-")}
    assert cuda
    lines = (ROOT / "kubeflow" / "requirements-gpu.lock").read_text().splitlines()
    assert {line for line in lines if not line.startswith("#")} == cuda
    (path,) = (pair for pair in " ".join(of("ENV")).split() if pair.startswith("LD_LIBRARY_PATH="))
    for line in cuda - {line for line in cuda if "nvcc" in line}:
        name = line.split("==")[0].removeprefix("nvidia-").removesuffix("-cu12").replace("-", "_")
        assert f"$NVIDIA/{name}/lib" in path
