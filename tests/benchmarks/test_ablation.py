"""The lines of the ablation table change what they say, and nothing that is not there."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.ablation import against_profile, blanked, remembering, report
from benchmarks.ablation_lines import LINES, VIEWS_SHOWN, _even_slots, _only_copies, _own_half
from benchmarks.judge import METRICS
from pipeline.settings import load_settings
from towers.examples import Column, Requests
from towers.loss import negatives_mask
from transform.features import VIEWS


@pytest.mark.parametrize("name", LINES)
def test_every_line_is_a_valid_change_of_the_profile(name):
    profile = f"benchmarks/profiles/{name.replace('-', '_')}.yaml"
    base = load_settings(profile)
    for line in LINES[name]:
        changed = load_settings(profile, dict(line.settings))
        assert (changed == base) == (not line.settings), line.name
        assert all(callable(getattr(module, function)) for module, function, _ in line.functions)
    assert len({line.name for line in LINES[name]}) == len(LINES[name])
    assert set(VIEWS_SHOWN[name]) <= set(VIEWS)


def test_masks_differ_from_the_real_one_where_they_say():
    own, known = tf.constant([3, 4, 3, 5]), tf.constant([[4], [0], [5], [0]])
    given = own, own, known, tf.range(4)
    eye = np.eye(4, dtype=bool)
    real = negatives_mask(*given).numpy()
    assert real.tolist() == [
        [True, False, False, True],
        [True, True, True, True],
        [False, True, True, False],
        [True, True, True, True],
    ]
    copies = np.array([3, 4, 3, 5])
    assert (_only_copies(*given).numpy() == ((copies[:, None] != copies) | eye)).all()
    halves = np.arange(4)[:, None] // 2 == np.arange(4) // 2
    assert (_own_half(*given).numpy() == (real & halves)).all()


def test_even_slots_say_nothing_of_an_item():
    slots = _even_slots(np.array([0.0, 1.0, 3.0]), 2.0)
    assert slots[1] == slots[2] == 3.0


def test_blanked_columns_have_no_values():
    column = Column(np.array([1, 2, 3]), np.array([0, 2, 3]))
    requests = blanked(Requests({"one": column, "target_items": column}), ["one"])
    assert requests.size == 2 and requests.columns["target_items"] is column
    assert requests.columns["one"].padded(np.arange(2)).tolist() == [[0], [0]]


def test_texts_are_encoded_once_for_each_encoder(tmp_path):
    class Encoder:
        def __init__(self, weight):
            self.backbone = type("Backbone", (), {"weights": [np.array([weight])]})

    calls = []

    def encode(encoder, tokens, what, state_dir=None):
        calls.append(what)
        return np.full((len(tokens), 2), float(encoder.backbone.weights[0][0])), len(tokens)

    spent: list[float] = []
    once = remembering(encode, tmp_path, spent)
    tokens = np.array([[1, 2], [3, 0]])
    for weight in (1, 1, 2):
        assert (once(Encoder(weight), tokens, "texts")[0] == weight).all()
    assert len(calls) == len(spent) == 2


def test_lines_are_compared_with_the_profile_request_by_request(tmp_path):
    profile = np.tile([0.0, 0.5, 1.0], 40)
    of = {name: profile for name in METRICS}
    assert against_profile({"all": of}, True, tmp_path) == {}
    half = {name: profile / 2 for name in METRICS}
    changes = against_profile({"all": half}, False, tmp_path)
    assert changes == {"all": dict.fromkeys(METRICS, [-0.5, -0.5, -0.5])}  # paired: each request lost half
    other = against_profile({"all": {name: profile[::-1] for name in METRICS}}, False, tmp_path)
    mean, low, high = other["all"]["recall_at_10"]
    assert mean == 0 and low < -0.1 and high > 0.1  # as good, but not sure to be

    name, *_, last = (line.name for line in LINES["home-depot"])
    means = {"all": dict.fromkeys(METRICS, 0.5)}
    first = {"name": name, "views": means, "changes": {}, "seconds": 10.0}
    text = report(
        "home-depot", {"command": "x", "lines": [first, first | {"name": last, "changes": changes}]}
    )
    assert text.splitlines()[-2:] == [
        f"| {name} | 0.5000 | 0.5000 |  |  | 10 |",
        f"| {last} | 0.5000 | 0.5000 | -50 % (-50 .. -50) | -50 % (-50 .. -50) | 10 |",
    ]
