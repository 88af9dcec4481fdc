"""Tests of towers.state."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towers.state import TrainingState, carry_state, check_architecture, load_state, save_state
from towers.vocabulary import Vocabulary
from transform.errors import TandemError

keys = st.lists(st.text('abcé "\n', min_size=1, max_size=3), unique=True, max_size=12)


def vocabulary(names, counts=None):
    return Vocabulary("item_id", tuple(names), counts)


def state_of(names, seed=0):
    random = np.random.default_rng(seed)
    rows = len(names) + 1
    return TrainingState(
        architecture={"model": {"dimension": 3}, "features": {"user": {}}},
        step=120,
        loss_scale=1024.0,
        vocabularies={"item_id": vocabulary(names, np.arange(len(names)))},
        keyed={"tower/ids": "item_id"},
        variables={
            "tower/ids": random.normal(size=(rows, 3)).astype(np.float32),
            "tower/bias": random.normal(size=3).astype(np.float32),
        },
        slots={
            "tower/ids": {"momentum": random.normal(size=(rows, 3)).astype(np.float32)},
            "tower/bias": {"momentum": random.normal(size=3).astype(np.float32)},
        },
    )


def by_position(old, _, new):
    """The mistake that keyed carry-over is there to avoid."""
    rows = np.zeros((new.rows, *old.shape[1:]), old.dtype)
    rows[: min(len(old), new.rows)] = old[: new.rows]
    return rows


def survivors_are_kept(carry, old_names, new_names):
    """Whether every key that stays has its row and its slots' rows, to the last bit."""
    state = state_of(old_names, seed=1)
    carried = carry(state, vocabulary(new_names))
    stays = sorted(set(old_names) & set(new_names))
    before = [old_names.index(key) + 1 for key in stays]
    after = [new_names.index(key) + 1 for key in stays]
    tables = [(state.variables["tower/ids"], carried.variables["tower/ids"])]
    tables += [(value, carried.slots["tower/ids"][slot]) for slot, value in state.slots["tower/ids"].items()]
    return all(np.array_equal(new[after], old[before]) for old, new in tables)


def by_key(state, new):
    return carry_state(state, {"item_id": new})


def only_variables_by_key(state, new):
    """The other mistake: rows follow their keys and slots stay where they were."""
    slots = {"momentum": by_position(state.slots["tower/ids"]["momentum"], None, new)}
    return by_key(state, new)._replace(slots={"tower/ids": slots})


@settings(max_examples=200, deadline=None)
@given(old=keys, new=keys, data=st.data())
def test_every_surviving_row_and_slot_follows_its_key_bit_for_bit(old, new, data):
    shuffled = data.draw(st.permutations(sorted(set(old) | set(new))))  # permuted, with additions
    assert survivors_are_kept(by_key, old, shuffled)
    assert survivors_are_kept(by_key, old, new)


def test_carrying_by_position_would_not():
    def all_by_position(state, new):
        moved = by_position(state.variables["tower/ids"], None, new)
        slots = {"momentum": by_position(state.slots["tower/ids"]["momentum"], None, new)}
        return state._replace(
            variables=state.variables | {"tower/ids": moved}, slots=state.slots | {"tower/ids": slots}
        )

    for wrong in (all_by_position, only_variables_by_key):
        assert not survivors_are_kept(wrong, ["a", "b", "c"], ["c", "a", "b"])
    assert survivors_are_kept(by_key, ["a", "b", "c"], ["c", "a", "b"])


def test_new_keys_start_from_the_row_of_unknown_keys_and_without_momentum():
    state = state_of(["mug", "tea"])
    carried = carry_state(state, {"item_id": vocabulary(["cup", "tea"])})
    table, slot = carried.variables["tower/ids"], carried.slots["tower/ids"]["momentum"]
    np.testing.assert_array_equal(table[1], state.variables["tower/ids"][0])
    np.testing.assert_array_equal(table[2], state.variables["tower/ids"][2])
    np.testing.assert_array_equal(slot[1], np.zeros(3))
    np.testing.assert_array_equal(slot[2], state.slots["tower/ids"]["momentum"][2])
    np.testing.assert_array_equal(carried.variables["tower/bias"], state.variables["tower/bias"])
    assert len(table) == 3  # "mug" left, and its row with it


def test_saved_state_is_read_back_to_the_last_bit(tmp_path):
    state = state_of(["mug", "tëa", 'quo"te\n'])
    save_state(tmp_path / "state", state)
    read = load_state(tmp_path / "state")
    assert read.vocabularies["item_id"].keys == state.vocabularies["item_id"].keys
    np.testing.assert_array_equal(read.vocabularies["item_id"].counts, [0, 1, 2])
    assert (read.step, read.loss_scale, read.keyed) == (state.step, state.loss_scale, state.keyed)
    for name, value in state.variables.items():
        np.testing.assert_array_equal(read.variables[name], value)
        np.testing.assert_array_equal(read.slots[name]["momentum"], state.slots[name]["momentum"])


@pytest.mark.parametrize(
    "name", ["state.json", "vocabularies.json", "arrays.safetensors", "arrays.safetensors cut", "format"]
)
def test_missing_or_damaged_state_is_one_clear_line(tmp_path, name):
    save_state(tmp_path / "state", state_of(["mug"]))
    path = tmp_path / "state" / name.split()[0]
    if name.endswith("cut"):
        path.write_bytes(path.read_bytes()[:-20])
    elif name == "format":
        description = json.loads((tmp_path / "state" / "state.json").read_text())
        (tmp_path / "state" / "state.json").write_text(json.dumps({**description, "format": 99}))
    else:
        path.unlink()
    with pytest.raises(TandemError, match="train from scratch") as caught:
        load_state(tmp_path / "state")
    assert "\n" not in str(caught.value)


def test_other_architecture_names_every_field_that_differs():
    saved = {"model": {"dimension": 64, "normalize": False}, "features": {"user": {"age": "category"}}}
    wanted = {"model": {"dimension": 128, "normalize": False}, "features": {"user": {}}}
    with pytest.raises(TandemError) as caught:
        check_architecture(saved, wanted, "push/7")
    message = str(caught.value)
    assert "model.dimension is 64 there and 128 here" in message and "features.user" in message
    assert "normalize" not in message
    check_architecture(saved, saved, "push/7")


def test_vocabulary_that_is_gone_is_named():
    with pytest.raises(TandemError, match="item_id"):
        carry_state(state_of(["mug"]), {})
