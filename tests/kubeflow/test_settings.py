"""Cluster files: what a step gets, and what is said of a wrong file."""

import pytest
import yaml

from kubeflow.settings import load_cluster
from transform.errors import TandemError

PATHS = {name: f"/mnt/a/{name}" for name in ("dataset", "push_dir", "encoder", "runs")}


def cluster(tmp_path, **changes):
    tree = {
        "image": "tandem:1",
        "paths": PATHS,
        "defaults": {"retries": 3, "volumes": [{"claim": "tandem", "mount": "/mnt/a"}]},
        **changes,
    }
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in tree.items() if value is not None}))
    return path


def refused(path):
    with pytest.raises(TandemError) as error:
        load_cluster(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_step_takes_from_defaults_what_it_leaves_out(tmp_path):
    settings = load_cluster(cluster(tmp_path, steps={"Trainer": {"gpus": 1, "memory_limit_gb": 32}}))
    trainer = settings.step("Trainer")
    assert (trainer.gpus, trainer.memory_limit_gb, trainer.retries) == (1, 32, 3)
    assert trainer.volumes[0].mount == "/mnt/a"
    assert settings.step("Pusher").gpus == 0


def test_file_that_is_not_there(tmp_path):
    assert "does not exist; expected a YAML file such as" in refused(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "text, said",
    [("a: [", "is not valid YAML: "), ("- a", "holds list, expected a mapping such as 'image:'")],
)
def test_file_that_is_no_mapping(tmp_path, text, said):
    (tmp_path / "c.yaml").write_text(text)
    assert said in refused(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"image": None}, "setting 'image' is missing"),
        ({"imagee": "x"}, "unknown setting 'imagee'; did you mean 'image'?"),
        ({"steps": {"Trainer": {"gpu": 1}}}, "steps.Trainer: unknown setting 'gpu'; did you mean 'gpus'?"),
        ({"steps": {"Trainer": {"cpu_request": 4}}}, "steps.Trainer: cpu_request 4 is above cpu_limit 2"),
        ({"pipeline_root": "/tmp"}, "pipeline_root"),
        ({"defaults": {}}, "is below no mount of defaults.volumes (none)"),
        (
            {"paths": PATHS | {"dataset": "data"}},
            "setting 'paths.dataset'",
        ),
        (
            {"paths": PATHS | {"dataset": "/mnt/ab"}},
            "paths.dataset '/mnt/ab' is below no mount",
        ),
    ],
)
def test_wrong_setting_is_named(tmp_path, changes, said):
    assert said in refused(cluster(tmp_path, **changes))


@pytest.mark.parametrize("secret", [{}, {"mount": "/s", "key": "k", "env": "E"}, {"key": "k"}])
def test_secret_is_files_or_a_variable(tmp_path, secret):
    steps = {"Trainer": {"secrets": [{"name": "token", **secret}]}}
    assert "a secret needs either mount, or key and env" in refused(cluster(tmp_path, steps=steps))
