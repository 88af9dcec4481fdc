"""What a training run shows in TensorBoard, read back from its event files."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

from tests.tiny_encoder import write_tiny_preset
from tests.towers import shop
from towers.build import build_model
from towers.datasets import Batches
from towers.encoder import load_encoder
from towers.examples import Requests
from towers.fit import compile_model, fit
from towers.loss import expected_slots
from towers.progress import Progress, flat_settings
from towers.settings import EncoderSettings, ModelSettings, TrainingSettings

FEATURES = shop.FEATURES.model_copy(update={"lexical_buckets": 64})
STILL = {"item_id_dropout": 0, "history_dropout": 0, "history_unknown": 0, "made_up_queries": 0}
SETTINGS = {"model": {"dimension": 8, "normalize": False}, "features": {"user": []}, "seed": 3}


class Shown:
    """One training step of a model with a lexical view, and what was written about it."""

    def __init__(self, root, policy):
        keras.utils.set_random_seed(5)
        preset = write_tiny_preset(root / "preset")
        encoder = load_encoder(EncoderSettings(preset=preset, trainable="last_layers", last_layers=1), policy)
        settings = ModelSettings(dimension=8, lexical_dimension=3, temperature=0.5, view_loss=0.3, **STILL)
        model = build_model(FEATURES, settings, encoder, shop.vocabularies(), policy)
        columns = shop.requests().columns
        self.batches = Batches(
            Requests(columns | {"query_lexemes": columns["query_tokens"]}), FEATURES, 40, 3, seed=5
        )
        lexemes = np.random.default_rng(1).integers(1, 40, (shop.ITEMS + 1, 5)).astype(np.int32)
        model.use_catalogue(
            shop.catalogue()._replace(lexemes=lexemes),
            expected_slots(self.batches.own_slots(shop.ITEMS + 1), 0),
        )
        training = TrainingSettings(learning_rate=0.01, encoder_learning_rate=0.001, encoder_layer_decay=0.5)
        compile_model(model, training, policy, 1, 0)
        if policy == "mixed_float16":
            model.optimizer.dynamic_scale.assign(
                64.0
            )  # at the first scale this step would overflow and be skipped
        self.model = model
        self.batch = {name: tf.constant(value) for name, value in next(self.batches.stream()).items()}
        self.squares = self.gradient_squares()
        progress = Progress(1, 100, self.batches.pairs_per_batch, str(root / "logs"))
        progress.write_settings(json.dumps(SETTINGS))
        fit(model, self.batches, 1, [progress])
        progress.write({"recall_at_10": 0.25}, "eval")
        self.events = EventAccumulator(str(root / "logs")).Reload()
        self.scalars = {
            tag: float(tensor_util.make_ndarray(self.events.Tensors(tag)[0].tensor_proto))
            for tag in self.events.Tags()["tensors"]
            if self.events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"
        }

    def gradient_squares(self):
        """Variable path -> squared length of the step's gradient."""
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss = self.model.compute_loss(self.batch, y_pred=self.model(self.batch, training=True))
        gradients = tape.gradient(loss, variables)
        return {
            variable.path: np.square(np.float64(tf.convert_to_tensor(gradient))).sum()
            for variable, gradient in zip(variables, gradients, strict=True)
        }


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    return Shown(tmp_path_factory.mktemp("shown"), "float32")


def test_the_loss_is_shown_by_parts_that_make_it_up(shown):
    of = shown.scalars
    parts = of["train/loss_joint"], of["train/loss_towers"], of["train/loss_lexical"]
    assert of["train/loss"] == pytest.approx(parts[0] + 0.3 * (parts[1] + parts[2]), rel=1e-5)
    assert len({round(part, 3) for part in parts}) == 3 and min(parts) > 0


def test_gradient_norms_are_those_of_the_parts_of_the_model(shown):
    encoder = {variable.path for variable in shown.model.encoder.trainable_variables}
    expected: dict[str, float] = {}
    for path, square in shown.squares.items():
        part = "encoder" if path in encoder else path.split("/")[0]
        expected[part] = expected.get(part, 0.0) + square
    assert set(expected) == {"encoder", "query_tower", "item_tower", "repeat", "lexical"}
    for part, square in expected.items():
        assert shown.scalars[f"train/gradient_norm_{part}"] == pytest.approx(square**0.5, rel=1e-3), part
        assert square > 0


def test_the_shares_of_masked_and_conflicting_negatives_are_counted(shown):
    targets, known = (shown.batch[name].numpy() for name in ("target_items", "known_positives"))
    pairs = [(row, item) for row, items in enumerate(targets) for item in items if item]
    masked = copies = 0
    for place, (row, own) in enumerate(pairs):
        for other, (_, item) in enumerate(pairs):
            if other != place:
                copies += item == own
                masked += item == own or item in known[row]
    assert shown.scalars["train/conflicting"] == pytest.approx(copies / len(pairs) ** 2, rel=1e-4)
    assert shown.scalars["train/masked"] == pytest.approx(masked / len(pairs) ** 2, rel=1e-4)
    assert 0 < copies < masked


def test_rates_scales_speed_and_metrics_are_shown(shown):
    of = shown.scalars
    assert of["train/learning_rate_encoder"] == pytest.approx(of["train/learning_rate"] / 10, rel=1e-4)
    assert of["weights/temperature"] == 0.5 and of["train/pairs_per_second"] > 0
    scales = {"query_tower/text_scale", "query_tower/history/scale", "repeat/log_power", "lexical/scale"}
    assert {f"weights/{name}" for name in scales} <= set(of)
    assert of["weights/lexical/scale"] == pytest.approx(float(np.asarray(shown.model.lexical.scale)))
    assert of["eval/recall_at_10"] == 0.25
    assert "train/loss_scale" not in of
    assert shown.events.Tensors("train/loss")[0].step == 101


def test_settings_are_hyperparameters(shown):
    content = shown.events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    found = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert found["model.dimension"].number_value == 8 and found["seed"].number_value == 3
    assert found["model.normalize"].bool_value is False and found["features.user"].string_value == "[]"
    assert flat_settings({"a": {"b": None}, "c": True}) == {"a.b": "null", "c": True}
    assert "settings" in shown.events.Tags()["tensors"]


def test_under_float16_norms_are_of_the_unscaled_gradient_and_the_loss_scale_is_shown(tmp_path):
    shown = Shown(tmp_path, "mixed_float16")
    assert shown.scalars["train/loss_scale"] == 64.0
    square = sum(value for path, value in shown.squares.items() if path.startswith("item_tower"))
    assert shown.scalars["train/gradient_norm_item_tower"] == pytest.approx(square**0.5, rel=0.05)
