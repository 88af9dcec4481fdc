"""The measurement of swaps does not pass over one that fails."""

from pathlib import Path

import pytest

from benchmarks.load_client import Load
from benchmarks.processes import tandem
from benchmarks.serving_swaps import stage, under_swaps
from serving.bundle import publish
from tests.serving.conftest import make_shop


def test_swap_that_fails_is_an_error_and_not_one_swap_less(tmp_path: Path) -> None:
    bundle = publish(make_shop(tmp_path / "shop").bundle_dir, tmp_path / "push", 1)
    staged = [stage(bundle, tmp_path / "staging", version) for version in (2, 3)]
    (tmp_path / "queries.txt").write_text("red mug\nblue lamp\n")
    with tandem(tmp_path / "push") as server:
        load = Load("grpc", server.address, str(tmp_path / "queries.txt"), 1, 0, 20.0, 0.5)
        measured = under_swaps(server, load, staged[:1], tmp_path / "push")
        assert measured["swaps"] == 1 and measured["all"]["failed"] == 0
        with pytest.raises(FileNotFoundError, match="staging/4"):
            under_swaps(server, load, [staged[1], tmp_path / "staging" / "4"], tmp_path / "push")
