"""Random transformed rows of a small shop, for tests of towers and batches."""

import numpy as np

from towers.build import build_model
from towers.catalogue import Catalogue
from towers.datasets import Batches
from towers.encoder import load_encoder
from towers.examples import Column, Requests
from towers.hard_negatives import HardNegatives
from towers.loss import expected_slots
from towers.made_up import make_up_queries
from towers.settings import EncoderSettings, ModelSettings
from towers.vocabulary import Vocabulary
from transform.settings import Feature, FeatureSettings

ITEMS = 50
FEATURES = FeatureSettings(user=(Feature(name="segment", kind="category"),))


def vocabularies():
    items = ITEMS

    def of(name, keys, counts=None):
        return Vocabulary(name, tuple(keys), counts)

    return {
        "item_id": of("item_id", (f"i{n}" for n in range(items)), np.arange(items, 0, -1)),
        "event_type": of("event_type", ("purchase", "return")),
        "category": of("category", ("A", "A > B")),
        "brand": of("brand", ("x", "y")),
        "segment": of("segment", ("single", "family")),
    }


def requests(rows=120, seed=0):
    random = np.random.default_rng(seed)

    def column(high, longest, shortest=0):
        lengths = random.integers(shortest, longest + 1, rows)
        values = random.integers(1, high + 1, lengths.sum()).astype(np.int32)
        return Column(values, np.concatenate([[0], np.cumsum(lengths)]))

    history = column(ITEMS, 8)
    targets = column(ITEMS, 6, shortest=1)

    def beside(other, high):
        return Column(random.integers(0, high + 1, len(other.values)).astype(np.int32), other.offsets)

    return Requests(
        {
            "query_tokens": column(40, 6),
            "history_items": history,
            "history_types": beside(history, 2),
            "history_ages": beside(history, 12),
            "segment": column(2, 1),
            "target_items": targets,
            "target_weights": Column(
                random.uniform(0.5, 2.0, len(targets.values)).astype(np.float32), targets.offsets
            ),
            "known_positives": column(ITEMS, 7),
        }
    )


def catalogue(seed=1):
    random = np.random.default_rng(seed)

    def table(high, width):
        return random.integers(1, high + 1, (ITEMS + 1, width)).astype(np.int32)

    tokens = table(40, 7)
    numbers = np.tile([0, 1, 2, 2, 3, 4, 0], (ITEMS + 1, 1))
    features = {"category": table(2, 4), "brand": table(2, 1), "price": table(16, 1)}
    return Catalogue(tokens, features, word_tokens=tokens * (numbers > 0), word_numbers=numbers)


def model(preset, policy="float32", trainable="last_layers", negatives=0, **settings):
    settings = {"made_up_queries": 0.0} | settings
    encoder = load_encoder(EncoderSettings(preset=preset, trainable=trainable, last_layers=1), policy)
    built = build_model(
        FEATURES, ModelSettings(dimension=8, **settings), encoder, vocabularies(), policy, negatives
    )
    rows = batches()
    built.use_catalogue(catalogue(), expected_slots(rows.own_slots(ITEMS + 1), negatives))
    if settings["made_up_queries"]:
        built.use_made_up_queries(make_up_queries(catalogue(), 5000, seed=6))
    return built


def batches(replicas=1, pairs=40, limit=3, hard_negatives=0):
    made = Batches(requests(), FEATURES, pairs, limit, replicas, seed=5)
    if hard_negatives:
        made.use_hard_negatives(random_hard_negatives(hard_negatives))
    return made


def random_hard_negatives(count):
    """Of every second target, any items but its own."""
    targets = requests().columns["target_items"].values
    row = np.where(np.arange(len(targets)) % 2, np.arange(1, len(targets) + 1), 0).astype(np.int32)
    items = np.random.default_rng(2).integers(0, ITEMS + 1, (len(targets) + 1, count)).astype(np.int32)
    items[0] = 0
    items[1:][items[1:] == targets[:, np.newaxis]] = 0
    return HardNegatives(row, items)
