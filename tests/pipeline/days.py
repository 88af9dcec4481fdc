"""A day of a mini shop as StrictExampleValidator sees it: InteractionGen and StatisticsGen have run, nothing is trained."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import tfx
from tfx.components.statistics_gen import executor as statistics_gen
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.types import standard_artifacts

from pipeline.example_validator import StrictExampleValidator
from serving.write_bundle import BASELINE
from tests.transform.run_interaction_gen import IN_PROCESS, NO_PUSH, run_interaction_gen
from transform.bad_day_settings import BadDaySettings
from transform.baseline import write_baseline
from transform.features import SPLITS
from transform.schema import write_schema
from transform.settings import DataSettings, Feature, FeatureSettings
from transform.span_counts import from_json

FEATURES = FeatureSettings(
    user=(Feature(name="segment", kind="category"),), context=(Feature(name="device", kind="category"),)
)


class Day(NamedTuple):
    """What a run knows before it trains.

    Attributes:
      examples, statistics, previous_push: artifacts.
      root: a directory of its own.
    """

    examples: object
    statistics: object
    previous_push: object
    root: Path

    def report(self):
        return json.loads(Path(self.examples.uri, "interactions.json").read_text())


def day_of(root, shop, span, push=None):
    """Runs InteractionGen and StatisticsGen on spans up to `span`; `push` is the Day that was pushed before."""
    record = NO_PUSH
    if push is not None:
        about = push.report()
        record = {"version": 1, **{key: about[key] for key in ("trained_until", "spans", "span_counts")}}
    data = DataSettings(dataset=str(shop), holdout_days=3)
    examples = run_interaction_gen(root, data, FEATURES, previous=record, span=span)
    statistics = standard_artifacts.ExampleStatistics()
    statistics.uri = str(root / "statistics")
    statistics.set_string_custom_property("tfx_version", tfx.__version__)
    context = statistics_gen.Executor.Context(
        beam_pipeline_args=list(IN_PROCESS), tmp_dir=str(root / "tmp"), unique_id="1"
    )
    statistics_gen.Executor(context).Do(
        {"examples": [examples]}, {"statistics": [statistics]}, {"exclude_splits": "[]"}
    )
    previous = standard_artifacts.Model()
    previous.uri = str(root / "push")
    if push is not None:
        computed = {
            split: stats_artifact_utils.load_statistics(push.statistics, split).proto() for split in SPLITS
        }
        counts = from_json(push.report()["span_counts"])
        write_baseline(root / "push" / "Format-Serving" / BASELINE, computed, counts, FEATURES)
    return Day(examples, statistics, previous, root)


def validate(day, root, **bars):
    """Runs StrictExampleValidator; returns what it let through, by name."""
    schema = standard_artifacts.Schema()
    settings = BadDaySettings(**bars)
    schema.uri = str(Path(write_schema(FEATURES, str(root / "schema"), settings)).parent)
    anomalies = standard_artifacts.ExampleAnomalies()
    anomalies.uri = str(root / "anomalies")
    StrictExampleValidator.test_call(
        statistics=day.statistics,
        schema=schema,
        examples=day.examples,
        previous_push=day.previous_push,
        anomalies=anomalies,
        features=FEATURES.model_dump_json(),
        bad_days=settings.model_dump_json(),
    )
    report = json.loads((root / "anomalies" / "bad_day.json").read_text())
    return sorted({anomaly["name"] for anomaly in report["allowed"]})


def next_week(shop, out, change=lambda events: events, items=lambda items: items):
    """A copy of `shop` with the newest span once more, a week later, as the next one.

    Args:
      shop: a mini shop.
      out: the copy.
      change: what becomes of the new span's events.
      items: what becomes of the catalogue.
    """
    shutil.copytree(shop, out)
    newest = max(int(path.name.split("-")[1]) for path in (out / "events").iterdir())
    events = pd.read_parquet(out / "events" / f"span-{newest}" / "events.parquet")
    events["timestamp"] += pd.Timedelta(days=7)
    target = out / "events" / f"span-{newest + 1}"
    target.mkdir()
    change(events.reset_index(drop=True)).to_parquet(target / "events.parquet", index=False)
    items(pd.read_parquet(out / "items.parquet")).to_parquet(out / "items.parquet", index=False)
    return out
