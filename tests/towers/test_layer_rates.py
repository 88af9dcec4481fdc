"""Learning rates: warm-up and decay written out, and each layer of the encoder moves by its own step size."""

import numpy as np
import pytest

from tests.tiny_encoder import write_tiny_preset
from tests.towers import shop
from towers.encoder import load_encoder
from towers.fit import compile_model, fit
from towers.layer_rates import encoder_scales
from towers.schedule import RunDecay
from towers.settings import EncoderSettings, TrainingSettings


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_tiny_preset(tmp_path_factory.mktemp("rates") / "preset", layers=2)


def test_the_rate_rises_over_the_warm_up_and_falls_to_a_twentieth():
    rate = RunDecay(2.0, steps=10, start=30, warm_up=0.4)
    # 4 steps of warm-up: quarters of the line that falls by 0.095 of 2.0 a step.
    wanted = [0.25 * 2.0, 0.5 * 1.81, 0.75 * 1.62, 1.43, 1.24]
    np.testing.assert_allclose([float(rate(30 + n)) for n in range(5)], wanted, rtol=1e-5)
    np.testing.assert_allclose([float(rate(40)), float(rate(99))], [0.1, 0.1], rtol=1e-5)
    assert float(RunDecay(2.0, 10, 30)(30)) == pytest.approx(2.0), (
        "without a warm-up it starts at its highest"
    )


@pytest.mark.parametrize("how", ["lora", "all"])
def test_each_layer_below_has_the_decay_once_more(preset, how):
    encoder = load_encoder(EncoderSettings(preset=preset, trainable=how), "float32")
    scales = encoder_scales(encoder, 0.1, 0.5)
    assert scales.keys() == {variable.path for variable in encoder.trainable_variables}
    wanted = {"transformer_layer_1": 0.1, "transformer_layer_0": 0.05}
    for path, scale in scales.items():
        assert scale == pytest.approx(wanted.get(path.split("/")[0], 0.025)), path


def test_the_first_step_moves_each_layer_by_its_own_rate(preset):
    # Adam's first step is the step size wherever the gradient is not next to 0.
    model = shop.model(preset, trainable="all", temperature=0.05)
    settings = TrainingSettings(learning_rate=0.01, encoder_learning_rate=1e-3, encoder_layer_decay=0.1)
    before = {variable.path: np.array(variable) for variable in model.encoder.trainable_variables}
    compile_model(model, settings, "float32", 1, 0)
    fit(model, shop.batches(), 1, [])
    moved = {v.path: np.abs(np.array(v) - before[v.path]).max() for v in model.encoder.trainable_variables}
    for layer, step in (
        ("transformer_layer_1", 1e-3),
        ("transformer_layer_0", 1e-4),
        ("token_embedding", 1e-5),
    ):
        most = max(value for path, value in moved.items() if path.startswith(layer))
        assert most == pytest.approx(step, rel=0.05), layer


def test_the_first_step_moves_projections_of_texts_by_their_share_of_the_rate(preset):
    model = shop.model(preset, temperature=0.05)
    parts = {"kernel": model.query_tower.text.kernel, "ids": model.item_tower.ids}
    before = {name: np.array(variable) for name, variable in parts.items()}
    compile_model(model, TrainingSettings(learning_rate=0.01, projection_rate=0.05), "float32", 1, 0)
    fit(model, shop.batches(), 1, [])
    moved = {name: np.abs(np.array(variable) - before[name]).max() for name, variable in parts.items()}
    assert moved == pytest.approx({"kernel": 0.0005, "ids": 0.01}, rel=0.05)
