"""A wrong key or value in a profile is one clear line, before anything runs."""

from pathlib import Path

import pytest
import yaml

from pipeline.settings import Settings, load_settings
from transform.errors import TandemError

PROFILES = Path(__file__).parents[2] / "pipeline" / "profiles"


@pytest.fixture
def profile(tmp_path):
    """Writes the demo profile with one dotted key changed and returns its path."""

    def write(key=None, value=None):
        tree = yaml.safe_load((PROFILES / "demo.yaml").read_text())
        if key:
            node = tree
            *parents, last = key.split(".")
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = value
        path = tmp_path / "profile.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    return write


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_profiles_load(path):
    assert load_settings(path).gates, "a profile without gates would push anything"


def test_defaults_survive_a_round_trip_through_json(profile):
    settings = load_settings(profile())
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_overrides_replace_only_what_is_given(profile):
    settings = load_settings(profile(), {"data.dataset": "elsewhere", "paths.push_dir": None})
    assert settings.data.dataset == "elsewhere"
    assert settings.paths.push_dir == "work/demo/push"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("training.batch_sizes", 3, "unknown setting 'training.batch_sizes'; did you mean 'batch_size'?"),
        ("training.batch_size", "many", "setting 'training.batch_size': .*received 'many'"),
        ("data.holdout_days", -1, "setting 'data.holdout_days': .*received -1"),
        ("data", {}, "setting 'data.dataset' is missing"),
        (
            "features.lexical_buckets",
            1024,
            "lexical_dimension is 256 and model.cooccurrence_dimension is 64 of model.dimension 192, expected fewer",
        ),
        (
            "training",
            {"early_stopping": 3, "early_stopping_metric": "ndcg_at_10"},
            "early_stopping_metric is ndcg_at_10, and no gate looks at it, expected one of .*recall_at_10",
        ),
        ("gates", [{"metric": "recall_at_10", "reason": "none"}], "a gate needs at_least or lose_at_most"),
        ("gates", [{"metric": "mrr", "lose_at_most": 0.1, "reason": "r"}], "no gate has at_least"),
        (
            "gates",
            [{"metric": "mrr", "at_least": 0.1, "user_group": "old", "reason": "r"}],
            "gates.0.user_group",
        ),
        ("gates", [{"metric": "recall", "at_least": 0.1, "reason": "typo"}], "setting 'gates.0.metric'"),
        ("features.user", [{"name": "query", "kind": "category"}], "query: reserved"),
    ],
)
def test_wrong_setting_is_named_in_one_line(profile, key, value, said):
    with pytest.raises(TandemError, match=said) as caught:
        load_settings(profile(key, value))
    assert "\n" not in str(caught.value)


def test_missing_and_unreadable_profiles(tmp_path):
    with pytest.raises(TandemError, match="does not exist"):
        load_settings(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("data: [unclosed")
    with pytest.raises(TandemError, match="not valid YAML"):
        load_settings(broken)
    broken.write_text("just words")
    with pytest.raises(TandemError, match="holds str, expected a mapping"):
        load_settings(broken)


def test_what_goes_together_is_not_added_to_cosines(profile):
    path = profile("features.cooccurrence_items", 100)
    assert load_settings(path).features.cooccurrence_items == 100
    with pytest.raises(TandemError, match="cooccurrence_items is set and model.normalize is true"):
        load_settings(path, {"model.normalize": True})
