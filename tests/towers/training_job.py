"""A small training job made of a generated shop, as InteractionGen and Transform leave it to the Trainer."""

from pathlib import Path

import tensorflow as tf

from towers.job import Job
from towers.settings import EncoderSettings, ModelSettings, TrainingSettings
from transform.settings import FeatureSettings


def make_job(root, **training):
    """Writes a shop, its transformed examples and an encoder below `root`.

    Args:
      root: a directory.
      training: TrainingSettings that differ.
    """
    from tests.mini_shop import write_mini_shop
    from tests.tiny_encoder import write_tiny_preset
    from tests.transform.run_interaction_gen import run_interaction_gen
    from tests.transform.run_transform import run_transform
    from transform.settings import DataSettings

    root = Path(root)
    features = FeatureSettings(history_length=8, query_tokens=8, item_tokens=12)
    preset = write_tiny_preset(root / "encoder")
    shop = write_mini_shop(root / "shop", spans=2)
    data = DataSettings(dataset=str(shop), holdout_days=2, known_positive_days=3)
    examples = run_interaction_gen(root, data, features)
    made = run_transform(root, examples, features, preset)
    files = {
        split: _write(root / "transformed" / f"Split-{split}", rows) for split, rows in made.rows.items()
    }
    settings = {"batch_size": 64, "steps": 20, "max_epochs": 1000, "negatives": 16} | training
    return Job(
        features=features,
        encoder=EncoderSettings(preset=preset),
        model=ModelSettings(dimension=16),
        training=TrainingSettings(**settings),
        train_files=[files["train"]],
        eval_files=[files["eval"]],
        item_files=[files["items"]],
        transform_graph=str(root / "graph"),
        **places(root / "run"),
        previous_state=None,
    )


def places(directory):
    """Where a job writes."""
    return {
        "serving_dir": str(directory / "model" / "Format-Serving"),
        "state_dir": str(directory / "model" / "training_state"),
        "log_dir": str(directory / "logs"),
    }


def _write(directory, rows):
    directory.mkdir(parents=True)
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(directory / "part.gz"), options) as writer:
        for row in rows:
            features = {name: _feature(values) for name, values in row.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return str(directory / "*")


def _feature(values):
    if not values:
        return tf.train.Feature()
    if any(isinstance(value, float) for value in values):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
