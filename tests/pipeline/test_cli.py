"""What bad input gets: one clear line on stderr, exit status 2, no traceback, nothing half-written."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline.cli import main
from pipeline.query import filter_of
from serving.bundle import versions
from tests.pipeline.conftest import mini_profile


def refused(capsys, *words):
    """Runs a command that must fail, and returns its one line."""
    assert main(words) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("tandem: "), captured.err
    assert "Traceback" not in captured.err + captured.out
    return lines[0]


@pytest.fixture
def shop(tmp_path):
    """A mini shop and a profile for it, without an encoder."""
    from tests.mini_shop import write_mini_shop

    write_mini_shop(tmp_path / "shop")
    return tmp_path


def test_help_needs_no_tensorflow():
    code = "import sys; from pipeline.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit('tensorflow' in sys.modules or 'tfx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_profile_that_is_not_there(capsys):
    assert "'none.yaml' does not exist" in refused(capsys, "run", "--profile", "none.yaml")


def test_unknown_setting(capsys, tmp_path):
    profile = mini_profile(tmp_path, training__step=5)
    assert "unknown setting 'training.step'; did you mean 'steps'?" in refused(
        capsys, "run", "--profile", str(profile)
    )


def test_preset_that_is_not_there(capsys, shop):
    line = refused(capsys, "run", "--profile", str(mini_profile(shop)))
    assert "encoder preset" in line and "tandem encoder import" in line


def test_push_directory_that_cannot_be_written(capsys, shop):
    (shop / "file").write_text("not a directory")
    profile = mini_profile(shop, paths__push_dir=str(shop / "file" / "push"))
    line = refused(capsys, "run", "--profile", str(profile))
    assert "push directory" in line and "cannot be written" in line
    assert (shop / "file").read_text() == "not a directory"


@pytest.mark.parametrize("missing", ["items.parquet", "events"])
def test_dataset_without_a_file_stops_before_anything_runs(capsys, shop, missing):
    from tests.tiny_encoder import write_tiny_preset

    write_tiny_preset(shop / "encoder")
    os.rename(shop / "shop" / missing, shop / "elsewhere")
    line = refused(capsys, "run", "--profile", str(mini_profile(shop)))
    assert missing.split(".")[0] in line and str(shop / "shop") in line
    assert not (shop / "pipeline" / "metadata.sqlite").exists()


def test_span_that_is_not_there(capsys, shop):
    from tests.tiny_encoder import write_tiny_preset

    write_tiny_preset(shop / "encoder")
    line = refused(capsys, "run", "--profile", str(mini_profile(shop)), "--span", "9")
    assert "span 9 is not in" in line
    assert versions(shop / "push") == []


def test_too_many_unknown_items_stop_the_run_and_nothing_is_pushed(capsys, shop):
    from tests.tiny_encoder import write_tiny_preset

    write_tiny_preset(shop / "encoder")
    items = shop / "shop" / "items.parquet"
    pd.read_parquet(items).iloc[:30].to_parquet(items)
    line = refused(capsys, "run", "--profile", str(mini_profile(shop)))
    assert "InteractionGen stopped the run" in line
    assert "item_id is not in items" in line and "expected at most 1.00%" in line
    assert versions(shop / "push") == []


def test_port_in_use(capsys, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(capsys, "serve", "--push-dir", str(tmp_path), "--port", str(port))
    assert str(port) in line


def test_query_without_server_and_without_words(capsys):
    assert "no server answers at 127.0.0.1:1" in refused(capsys, "query", "mug", "--server", "127.0.0.1:1")
    assert "neither text nor history" in refused(capsys, "query")
    assert "no server answers at 127.0.0.1:1" in refused(capsys, "related", "i001", "--server", "127.0.0.1:1")


def test_filters_of_a_query(capsys):
    chosen = filter_of(["brand=Star", "brand=Heart", "category=A > B"], ["price=5..", "weight=..2.5"], True)
    assert chosen.values == {"brand": ["Star", "Heart"], "category": ["A > B"]}
    assert chosen.ranges == {"price": (5.0, None), "weight": (None, 2.5)}
    assert chosen.exclude_history
    for word in ("price=5", "price=a..b", "5..20"):
        assert f"got '{word}', expected NAME=" in refused(capsys, "query", "mug", "--range", word)


def test_encoder_import_of_nothing_leaves_nothing(capsys, tmp_path):
    refused(capsys, "encoder", "import", str(tmp_path / "nowhere"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_prepare_shows_row_numbers_and_writes_nothing_when_wrong(capsys, tmp_path):
    source = tmp_path / "files"
    source.mkdir()
    (source / "items.csv").write_text("item_id,title\na,Red mug\na,Red mug again\n")
    (source / "events.csv").write_text(
        "timestamp,item_id,event_type,user_id\n2024-01-01,a,purchase,u\nyesterday,a,purchase,u\n2024-01-02,b,purchase,u\n"
    )
    status = main(["prepare", "csv", str(source), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert status == 2
    assert (
        "timestamp does not parse" in said and "item_id is not in items" in said and "more than once" in said
    )
    assert not Path(tmp_path / "out").exists()
