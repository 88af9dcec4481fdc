"""Mini shops and what InteractionGen made of them, once for all tests here."""

from typing import NamedTuple

import pytest

from transform.settings import DataSettings, Feature, FeatureSettings

SHOP_FEATURES = FeatureSettings(
    user=(Feature(name="segment", kind="category"), Feature(name="household", kind="number")),
    context=(Feature(name="device", kind="category"),),
    event_types={"purchase": 2.0},
    history_length=8,
    query_tokens=8,
    item_tokens=12,
    number_buckets=4,
)


class Made(NamedTuple):
    """An artifact of InteractionGen and what it was made from."""

    shop: str
    data: DataSettings
    features: FeatureSettings
    examples: object
    newest: int
    previous: dict | None


def make(root, shop, *, newest, previous=None, features=SHOP_FEATURES, beam_args=None, **data):
    from tests.transform.run_interaction_gen import IN_PROCESS, run_interaction_gen

    plain = {"holdout_days": 2, "known_positive_days": 3, "anchor_share": 0, "replay_share": 0}
    settings = DataSettings(dataset=str(shop), **plain | data)
    examples = run_interaction_gen(
        root, settings, features, previous=previous, span=newest, beam_args=beam_args or IN_PROCESS
    )
    return Made(str(shop), settings, features, examples, newest, previous)


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """Three weeks, with users, queries, views and a context column."""
    from tests.mini_shop import write_mini_shop

    return write_mini_shop(tmp_path_factory.mktemp("shop") / "shop", spans=3)


@pytest.fixture(scope="session")
def first_run(shop, tmp_path_factory):
    """A bootstrap on weeks 1 and 2."""
    return make(tmp_path_factory.mktemp("first"), shop, newest=2)


@pytest.fixture(scope="session")
def warm_run(shop, first_run, tmp_path_factory):
    """A warm start on week 3 after `first_run` was pushed."""
    import json

    with open(f"{first_run.examples.uri}/interactions.json", encoding="utf-8") as file:
        report = json.load(file)
    previous = {"version": 1, "trained_until": report["trained_until"], "spans": report["spans"]}
    return make(tmp_path_factory.mktemp("warm"), shop, newest=3, previous=previous)


@pytest.fixture(scope="session")
def replay_run(shop, warm_run, tmp_path_factory):
    """The same warm start, but it learns everything again that it may."""
    sampling = {"anchor_share": 0.2, "replay_share": 1.0, "replay_half_life_days": 1e9}
    return make(tmp_path_factory.mktemp("replay"), shop, newest=3, previous=warm_run.previous, **sampling)


@pytest.fixture(scope="session")
def search_run(tmp_path_factory):
    """A pure search shop: nobody is known, every event has a query."""
    from tests.mini_shop import write_mini_shop

    root = tmp_path_factory.mktemp("search")
    shop = write_mini_shop(root / "shop", with_users=False)
    return make(root, shop, newest=2, features=FeatureSettings(query_tokens=8, item_tokens=12))


@pytest.fixture(scope="session")
def purchase_run(tmp_path_factory):
    """A pure purchase shop: nothing is searched for."""
    from tests.mini_shop import write_mini_shop

    root = tmp_path_factory.mktemp("purchase")
    return make(root, write_mini_shop(root / "shop", with_queries=False), newest=2)
