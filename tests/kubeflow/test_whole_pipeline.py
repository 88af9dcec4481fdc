"""A mini shop's pipeline, compiled and executed a process a step, from the command line to the pushed bundle."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from kubeflow.commands import add_commands
from pipeline.cli import main
from serving.bundle import verify_bundle, versions
from tests.mini_shop import write_mini_shop
from tests.pipeline.conftest import mini_profile
from tests.tiny_encoder import write_tiny_preset

pytestmark = pytest.mark.slow


def kubeflow(*words):
    return main(["kubeflow", *map(str, words)], more_commands=[add_commands])


@pytest.fixture
def shop(tmp_path):
    """A mini shop of one span, a tiny encoder, and the pipeline compiled for them."""
    write_mini_shop(tmp_path / "shop", spans=1, users=30, items=30)
    write_tiny_preset(tmp_path / "encoder")
    profile = mini_profile(tmp_path, training__steps=20, training__replicas=1)
    names = {"dataset": "shop", "push_dir": "push", "encoder": "encoder", "runs": "pipeline"}
    cluster = {
        "image": "tandem:0.1.0",
        "paths": {key: str(tmp_path / name) for key, name in names.items()},
        "defaults": {"retries": 0, "volumes": [{"claim": "tandem", "mount": str(tmp_path)}]},
    }
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(cluster))
    (tmp_path / "push").mkdir()
    words = ("--profile", profile, "--cluster", tmp_path / "cluster.yaml", "--out", tmp_path / "p.yaml")
    assert kubeflow("compile", *words) == 0
    return tmp_path


def test_compiled_pipeline_ends_with_a_pushed_bundle(shop):
    elsewhere = shop / "elsewhere"
    words = ("--param", "span=1", "--param", f"push_dir={elsewhere}", "--root", shop / "runs")
    assert kubeflow("run-compiled", shop / "p.yaml", *words) == 0
    (version,) = versions(elsewhere)
    manifest = verify_bundle(elsewhere / str(version))
    assert (manifest.spans, manifest.item_count, manifest.parent_version) == ((1,), 30, None)
    assert versions(shop / "push") == [], "the parameter is put over what was compiled"
    (run,) = (path for path in (shop / "runs").iterdir() if path.name != "cache")
    (log,) = run.glob("ReportOutcome/1/log.txt")
    assert f"run {run.name} succeeded" in log.read_text()
    steps = yaml.safe_load((shop / "p.yaml").read_text().split("\n---\n")[0])["components"]["tfx-dag"]["dag"]
    assert {path.name for path in run.iterdir()} == {*steps["tasks"], "ReportOutcome"}
    (pushed,) = run.glob("Pusher/1/pushed/push.json")
    assert json.loads(pushed.read_text())["version"] == version


def test_step_that_fails_is_named_with_its_reason_and_nothing_is_pushed(shop, capfd):
    items = Path(shop / "shop" / "items.parquet")
    pd.read_parquet(items).iloc[:10].to_parquet(items)
    assert kubeflow("run-compiled", shop / "p.yaml", "--root", shop / "runs") == 2
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert "step 'InteractionGen' failed" in said and "item_id is not in items" in said
    assert versions(shop / "push") == []
    (log,) = (shop / "runs").glob("*/ReportOutcome/1/log.txt")
    assert "ended as FAILED: step 'InteractionGen' failed" in log.read_text()
