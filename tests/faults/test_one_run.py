"""One run that is killed at every stage, meets a full disk and a second run, and still ends as if nothing had been."""

import os
import re
from pathlib import Path

import pytest

from serving.bundle import read_manifest, verify_bundle, versions
from tests.pipeline.conftest import mini_profile

pytestmark = pytest.mark.faults


@pytest.fixture
def profiles(tmp_path):
    """Two profiles over one shop and one encoder: what is disturbed, and what is not."""
    from tests.mini_shop import write_mini_shop
    from tests.tiny_encoder import write_tiny_preset

    write_mini_shop(tmp_path / "shop", spans=3)
    write_tiny_preset(tmp_path / "encoder")

    def profile(name):
        paths = {
            "paths__pipeline_root": str(tmp_path / name),
            "paths__push_dir": str(tmp_path / f"{name}-push"),
        }
        made = mini_profile(tmp_path, **paths)
        return made.rename(tmp_path / f"{name}.yaml"), tmp_path / f"{name}-push"

    return profile("disturbed"), profile("undisturbed")


def half_done(push_dir):
    return list(Path(push_dir).glob(".unfinished-*"))


def test_a_run_survives_kills_a_full_disk_and_a_second_run(tandem, profiles):
    (profile, push_dir), (calm_profile, calm_push_dir) = profiles
    run = ("run", "--profile", profile, "--span", 2)
    calm = tandem("run", "--profile", calm_profile, "--span", 2)

    for stage in ("Transform", "Trainer", "CatalogIndexer"):
        killed = tandem(*run)
        killed.wait_for(f"] {stage} ...")
        killed.kill()
        assert versions(push_dir) == [] and half_done(push_dir) == []

    killed = tandem(*run, module="tests.faults.hang_in_push")
    killed.wait_for("a push is half done")
    status, said = tandem("retrain", "--profile", profile).end()
    assert status == 4 and "another run pushes to" in said, said
    killed.kill()
    assert versions(push_dir) == [] and len(half_done(push_dir)) == 1

    status, said = calm.end()
    assert status == 0, said
    (calm_version,) = versions(calm_push_dir)
    candidate = push_dir.with_name("disturbed") / "CatalogIndexer" / "bundle"
    largest = max(path.stat().st_size for path in candidate.rglob("Format-Serving/**/*"))
    status, said = tandem(*run, file_size=largest - 1).end()
    assert status == 2 and "Pusher stopped the run" in said and "with room for it" in said, said
    assert versions(push_dir) == [] and half_done(push_dir) == []

    status, said = tandem(*run).end()
    assert status == 0, said
    assert re.search("Trainer │ cached", said), "what had been finished is not done again"
    (version,) = versions(push_dir)

    manifest = verify_bundle(push_dir / str(version))
    calm_manifest = verify_bundle(calm_push_dir / str(calm_version))
    # The weights came out the same to the last bit; TFMA adds up float32 in whatever order Beam has the rows.
    for view, metrics in calm_manifest.metrics.items():
        assert manifest.metrics[view] == pytest.approx(metrics, abs=1e-6)
    assert (manifest.spans, manifest.parent_version) == (calm_manifest.spans, None)

    status, said = tandem(*run).end()
    assert status == 0 and f"nothing to do: version {version} has learnt span 2" in said, said
    assert versions(push_dir) == [version]
    anew = goes_on_from_a_lost_state_only_when_told(tandem, profile, push_dir, version)
    a_warm_start_survives_a_kill(
        tandem, (profile, push_dir, anew), (calm_profile, calm_push_dir, calm_version)
    )


def goes_on_from_a_lost_state_only_when_told(tandem, profile, push_dir, version):
    manifest = read_manifest(push_dir / str(version))
    os.remove(push_dir / str(version) / manifest.training_state / "arrays.safetensors")
    status, said = tandem("retrain", "--profile", profile).end()
    assert status == 2 and "the previous push cannot be gone on from" in said and "--from-scratch" in said, (
        said
    )
    assert versions(push_dir) == [version]

    # On the data of the lost push the whole run but the push is in the cache.
    status, said = tandem("run", "--profile", profile, "--span", 2, "--from-scratch").end()
    assert status == 0, said
    (_, anew) = versions(push_dir)
    again = verify_bundle(push_dir / str(anew))
    assert (again.parent_version, again.metrics) == (None, manifest.metrics)
    return anew


def a_warm_start_survives_a_kill(tandem, disturbed, calm):
    """Both go on from the same weights to span 3; one is killed while it trains."""
    profile, push_dir, parent = disturbed
    killed = tandem("retrain", "--profile", profile)
    killed.wait_for("] Trainer ...")
    killed.wait_for("warm start from step")
    killed.kill()
    assert versions(push_dir)[-1] == parent and half_done(push_dir) == []

    pushed = []
    for name, directory, _ in (disturbed, calm):
        status, said = tandem("retrain", "--profile", name).end()
        assert status == 0, said
        pushed.append(verify_bundle(directory / str(versions(directory)[-1])))
    assert [manifest.parent_version for manifest in pushed] == [parent, calm[2]]
    one, other = pushed
    assert one.spans == other.spans and len(one.spans) == 3
    for view, metrics in other.metrics.items():
        assert one.metrics[view] == pytest.approx(metrics, abs=1e-6)
