"""What is due, and that neither a clock nor the order of arrival has a say in it."""

import os
import shutil

import pytest

from pipeline.cli import main
from pipeline.due import NothingDue, spans_due
from pipeline.lock import only_run
from pipeline.settings import load_settings
from serving.bundle import newest_version, publish, read_manifest, seal, versions
from tests.pipeline.conftest import mini_profile
from transform.window import Previous, plan_window


def push(root, version, spans, trained_until=1.0):
    """Publishes a bundle of a few bytes that says it has learnt `spans`."""
    bundle = root / f"bundle-{version}"
    bundle.mkdir()
    (bundle / "saved_model.pb").write_text("weights")
    seal(bundle, item_count=1, dimension=1, k=1, spans=spans, trained_until=trained_until)
    return publish(bundle, root / "push", version)


@pytest.fixture
def shop(tmp_path):
    """A shop of five weeks and the settings for it."""
    from tests.mini_shop import write_mini_shop

    write_mini_shop(tmp_path / "shop", spans=5)
    return load_settings(mini_profile(tmp_path))


def test_before_the_first_push_everything_is_due(shop):
    assert spans_due(shop) == [1, 2, 3, 4, 5]
    assert spans_due(shop, span=2) == [1, 2]


def test_missed_days_are_due_together(shop, tmp_path):
    push(tmp_path, 7, (1, 2))
    assert spans_due(shop) == [3, 4, 5]
    assert spans_due(shop, span=4) == [3, 4]


def test_a_late_span_is_due_and_one_before_the_window_is_not(shop, tmp_path):
    push(tmp_path, 7, (2, 4, 5))
    assert spans_due(shop) == [3]


def test_all_learnt_is_nothing_to_do_and_no_failure(shop, tmp_path, capsys):
    push(tmp_path, 7, (1, 2, 3, 4, 5))
    with pytest.raises(NothingDue):
        spans_due(shop)
    for words in (["retrain"], ["run"], ["run", "--span", "3"]):
        assert main([*words, "--profile", str(tmp_path / "profile.yaml")]) == 0
        assert "nothing to do: version 7 has learnt span" in capsys.readouterr().out
    assert versions(tmp_path / "push") == [7]
    assert not (tmp_path / "pipeline" / "metadata.sqlite").exists()


def test_second_retrain_is_refused_while_the_first_goes_on(shop, tmp_path, capsys):
    push(tmp_path, 7, (1, 2))
    with only_run(str(tmp_path / "push")):
        assert main(["retrain", "--profile", str(tmp_path / "profile.yaml")]) == 4
    said = capsys.readouterr().err
    assert said.startswith("tandem: another run pushes to") and len(said.splitlines()) == 1
    assert versions(tmp_path / "push") == [7]
    assert os.listdir(tmp_path / "pipeline") == []


def test_a_clock_that_goes_back_changes_neither_spans_nor_cut_nor_the_order_of_versions(
    shop, tmp_path, monkeypatch
):
    before = plan_window(shop.data, previous=Previous(7, 1704672000.0, (1, 2)))
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    for directory, _, names in os.walk(tmp_path / "shop"):
        for name in names:
            os.utime(os.path.join(directory, name), (1, 1))
    assert plan_window(shop.data, previous=Previous(7, 1704672000.0, (1, 2))) == before
    # Pushed at an earlier moment than the version it comes from, and still the newer one.
    push(tmp_path, 1_767_225_600, (1, 2, 3))
    second = push(tmp_path, None, (1, 2, 3, 4))
    assert int(second.name) == newest_version(tmp_path / "push") == 1_767_225_601
    assert spans_due(shop) == [5]
    # What `created` says is not read either: the version made last counts, whatever its date.
    dates = [read_manifest(tmp_path / "push" / str(v)).created for v in versions(tmp_path / "push")]
    assert len(dates) == 2


def test_a_version_that_lost_its_manifest_is_not_passed_over(shop, tmp_path, capsys):
    push(tmp_path, 7, (1, 2))
    shutil.rmtree(push(tmp_path, 8, (1, 2, 3)) / "assets.extra")
    assert versions(tmp_path / "push") == [7]
    assert main(["retrain", "--profile", str(tmp_path / "profile.yaml")]) == 2
    said = capsys.readouterr().err
    assert "cannot be gone on from" in said and "push/8 has no" in said and "--from-scratch" in said
    shutil.rmtree(tmp_path / "push" / "8")
    assert spans_due(shop) == [3, 4, 5]
