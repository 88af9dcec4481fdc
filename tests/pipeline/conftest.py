"""A mini shop that is trained, pushed and trained again, once for all tests here."""

import contextlib
import io
from typing import NamedTuple

import pytest
import yaml

from pipeline.settings import Settings, load_settings


class Loop(NamedTuple):
    """Runs of the whole pipeline: a candidate that no bar lets through, the same under other gates, a day later.

    Attributes:
      settings: of the runs that push.
      refused: exit status and standard error of the command that was refused.
      first, second: RunResult of the runs that push.
    """

    settings: Settings
    refused: tuple[int, str]
    first: object
    second: object


def mini_profile(root, **changes):
    """Writes a profile for the mini shop under `root` and returns its path."""
    tree = {
        "name": "mini",
        "paths": {"pipeline_root": str(root / "pipeline"), "push_dir": str(root / "push")},
        "data": {"dataset": str(root / "shop"), "holdout_days": 3},
        "features": {"history_length": 20, "query_tokens": 8, "item_tokens": 16, "cooccurrence_items": 50},
        "encoder": {"preset": str(root / "encoder")},
        "model": {"dimension": 24, "cooccurrence_dimension": 8},
        "training": {"batch_size": 64, "steps": 60, "warm_start_steps": 20, "max_epochs": 4, "replicas": 2},
        "index": {"k": 20, "brute_force_below": 0, "leaves": 4},
        "gates": [
            {"metric": "recall_at_10", "at_least": 0.01, "lose_at_most": 0.5, "reason": "not broken"},
            {"metric": "recall_at_10", "view": "anchor", "lose_at_most": 0.5, "reason": "no forgetting"},
        ],
    }
    for dotted, value in changes.items():
        node = tree
        *parents, last = dotted.split("__")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    path = root / "profile.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="session")
def shop_root(tmp_path_factory):
    """A directory with a mini shop of three weekly spans and a tiny encoder."""
    from tests.mini_shop import write_mini_shop
    from tests.tiny_encoder import write_tiny_preset

    root = tmp_path_factory.mktemp("mini")
    write_mini_shop(root / "shop", spans=3)
    write_tiny_preset(root / "encoder")
    return root


@pytest.fixture(scope="session")
def loop(shop_root):
    """The pipeline on spans up to 2, refused at first, then on span 3, with an encoder that the first run tunes."""
    from pipeline.cli import main
    from pipeline.local_runner import run_locally

    too_high = [{"metric": "recall_at_10", "at_least": 0.999, "reason": "nothing reaches it"}]
    tuned = {"encoder__tuning_steps": 3, "encoder__last_layers": 1}
    profile = mini_profile(shop_root, gates=too_high, **tuned)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = main(["run", "--profile", str(profile), "--span", "2"])
    settings = load_settings(mini_profile(shop_root, **tuned))
    first = run_locally(settings, span=2)
    return Loop(settings, (status, said.getvalue()), first, run_locally(settings, span=3))
