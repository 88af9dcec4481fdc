"""A shop with requests drawn from one distribution: for training rows, and for requests that a server logs."""

from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_data_validation as tfdv
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from pipeline.logged_requests import rows_of
from serving.observed import Observed
from serving.prediction_log import PredictionLogger
from serving.settings import IndexSettings
from serving.write_bundle import write_bundle
from tests.serving.conftest import FEATURES, Shop, request_of
from transform.bad_day_settings import BadDaySettings
from transform.baseline import write_baseline
from transform.examples import request_example
from transform.features import SPLITS
from transform.request_baseline import Comparison, compared_requests, write_comparison
from transform.request_statistics import label_batch, write_training_statistics
from transform.requests import Request

SEGMENTS = ("single", "couple", "family", None)
TYPES = ("view", "purchase")
WORDS = ("red", "blue", "small", "large", "mug", "lamp", "shirt")


def draw(random: np.random.Generator, *, words=0, basket=1.0, segments=(0.4, 0.3, 0.2, 0.1), seconds=False):
    """A request, as (Request, segment); the arguments move one feature each.

    Args:
      random: where it comes from.
      words: how many more every query has.
      basket: what the basket is multiplied by.
      segments: shares of `SEGMENTS`.
      seconds: whether ages are in seconds instead of days.
    """
    query = " ".join(random.choice(WORDS, random.integers(1, 4) + words)) if random.random() < 0.6 else ""
    ages = np.sort(random.exponential(20.0, random.integers(0, 6))) + 0.01
    history = tuple(
        (f"sku-{random.integers(60)}", TYPES[int(random.random() < 0.3)], float(np.float32(age)))
        for age in (ages * 86400 if seconds else ages)
    )
    value = None if random.random() < 0.2 else float(np.float32(random.lognormal() * basket))
    segment = SEGMENTS[random.choice(4, p=segments)]
    return Request("train", "ada", query, 1e9, history, (value,), {"sku-1": 1.0}, ()), segment


def stored(request: Request, segment: str | None) -> bytes:
    """As InteractionGen writes it."""
    return request_example(request, {"segment": segment}, ["basket"])


def asked(requests: list, signature: str = "") -> predict_pb2.PredictRequest:
    """One batch, as a client sends it."""
    longest = max(1, *(len(request.history) for request, _ in requests))

    def history(place: int, absent: object) -> list[list]:
        rows = [[entry[place] for entry in request.history] for request, _ in requests]
        return [row + [absent] * (longest - len(row)) for row in rows]

    baskets = [np.nan if request.context[0] is None else request.context[0] for request, _ in requests]
    return request_of(
        signature,
        query=[request.query for request, _ in requests],
        history_item_ids=history(0, ""),
        history_event_types=history(1, ""),
        history_ages=np.array(history(2, np.nan), np.float32),
        segment=[segment or "" for _, segment in requests],
        basket=np.array(baskets, np.float32),
    )


def answered(request: predict_pb2.PredictRequest, version: int) -> Observed:
    """The request as a server has answered it."""
    response = predict_pb2.PredictResponse()
    response.model_spec.version.value = version
    return Observed("Predict", "GRPC", "OK", 0.01, request, response.SerializeToString())


def write_log(directory: Path, requests: list[predict_pb2.PredictRequest], version: int) -> None:
    """Logs every request, as answered by a version."""
    logger = PredictionLogger(str(directory), 1.0)
    for request in requests:
        logger.observe(answered(request, version))
    logger.stop()


def batches(seed: int, count: int, **moved) -> list[predict_pb2.PredictRequest]:
    """`count` drawn requests in batches of 25."""
    random = np.random.default_rng(seed)
    drawn = [draw(random, **moved) for _ in range(count)]
    return [asked(drawn[first : first + 25]) for first in range(0, count, 25)]


def statistics_in_memory(requests: list, comparison: Comparison):
    """What a log of these requests comes to, without the log."""
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(asked(requests))
    rows = list(rows_of(log, frozenset(log.predict_log.request.inputs)))
    return stats_impl.generate_statistics_in_memory(
        label_batch(rows, comparison.features), tfdv.StatsOptions()
    )


def statistics_of_baskets(requests: list):
    """What StatisticsGen would tell of the one declared number."""
    column = pa.array([None if r.context[0] is None else [r.context[0]] for r, _ in requests])
    batch = pa.RecordBatch.from_arrays([column], ["basket"])
    return stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions())


def make_bundle(shop: Shop, directory: Path, bars: BadDaySettings, rows: int = 2000) -> Path:
    """A sealed bundle of the shop's towers with the statistics of training requests, made as CatalogIndexer does."""
    random = np.random.default_rng(1)
    requests = [draw(random) for _ in range(rows)]
    examples = directory / "train" / "data.gz"
    examples.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(examples), "GZIP") as writer:
        for request in requests:
            writer.write(stored(*request))
    statistics = statistics_of_baskets(requests)
    baseline = directory / "baseline"
    write_baseline(baseline, dict.fromkeys(SPLITS, statistics), {}, FEATURES)
    comparison = compared_requests(FEATURES, statistics, bars)
    write_comparison(baseline, comparison)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        write_training_statistics(pipeline, str(examples), rows, comparison.features, baseline)
    write_bundle(
        shop.towers_dir,
        shop.catalogue,
        str(directory / "bundle"),
        IndexSettings(k=20),
        baseline=str(baseline),
    )
    return directory / "bundle"
