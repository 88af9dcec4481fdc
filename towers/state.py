"""The training state: everything the next run needs to go on, each row under its key."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from towers.vocabulary import Vocabulary
from transform.errors import TandemError

FORMAT = 1
_DESCRIPTION, _VOCABULARIES, _ARRAYS = "state.json", "vocabularies.json", "arrays.safetensors"


class TrainingState(NamedTuple):
    """What was saved.

    Attributes:
      architecture: what has to be the same in the next run, as nested names and values.
      step: optimizer steps so far, over all runs.
      loss_scale: of mixed_float16; None under another policy.
      vocabularies: name -> keys and counts, in row order.
      keyed: variable name -> vocabulary its rows follow.
      variables: variable name -> value.
      slots: variable name -> slot name -> value; slots follow the rows of their variable.
    """

    architecture: dict[str, Any]
    step: int
    loss_scale: float | None
    vocabularies: dict[str, Vocabulary]
    keyed: dict[str, str]
    variables: dict[str, np.ndarray]
    slots: dict[str, dict[str, np.ndarray]]


def save_state(directory: str | Path, state: TrainingState) -> None:
    """Writes the state; the description goes last, so that a half-written state is not taken for one."""
    from safetensors.numpy import save_file

    directory = Path(directory)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    arrays = {f"variable:{name}": np.asarray(value, order="C") for name, value in state.variables.items()}
    for name, slots in state.slots.items():
        arrays |= {f"slot:{slot}:{name}": np.asarray(value, order="C") for slot, value in slots.items()}
    save_file(arrays, str(directory / _ARRAYS))
    (directory / _ARRAYS).chmod(0o644)  # safetensors writes for the owner alone; a server may be another user
    vocabularies = {
        name: {
            "keys": list(vocabulary.keys),
            "counts": None if vocabulary.counts is None else vocabulary.counts.tolist(),
        }
        for name, vocabulary in state.vocabularies.items()
    }
    (directory / _VOCABULARIES).write_text(json.dumps(vocabularies, ensure_ascii=True), encoding="utf-8")
    description = {
        "format": FORMAT,
        "architecture": state.architecture,
        "step": state.step,
        "loss_scale": state.loss_scale,
        "keyed": state.keyed,
        "arrays": sorted(arrays),
    }
    (directory / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def load_state(directory: str | Path) -> TrainingState:
    """Reads a state.

    Raises:
      TandemError: it is missing, damaged or of another format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    directory = Path(directory)
    try:
        description = json.loads((directory / _DESCRIPTION).read_text(encoding="utf-8"))
        if description["format"] != FORMAT:
            raise TandemError(
                f"{directory}: training state of format {description['format']}, expected {FORMAT};"
                " train from scratch, or use the release that wrote it."
            )
        stored = json.loads((directory / _VOCABULARIES).read_text(encoding="utf-8"))
        arrays = load_file(directory / _ARRAYS)
        vocabularies = {
            name: Vocabulary(
                name,
                tuple(values["keys"]),
                None if values["counts"] is None else np.array(values["counts"], np.int64),
            )
            for name, values in stored.items()
        }
        missing = sorted(set(description["arrays"]) - set(arrays))
        if missing:
            raise ValueError(f"{', '.join(missing)} missing in {_ARRAYS}")
        slots: dict[str, dict[str, np.ndarray]] = {}
        for name, value in arrays.items():
            if name.startswith("slot:"):
                _, slot, variable = name.split(":", 2)
                slots.setdefault(variable, {})[slot] = value
        return TrainingState(
            architecture=description["architecture"],
            step=int(description["step"]),
            loss_scale=description["loss_scale"],
            vocabularies=vocabularies,
            keyed=description["keyed"],
            variables={name[9:]: value for name, value in arrays.items() if name.startswith("variable:")},
            slots=slots,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TandemError(
            f"{directory}: no whole training state ({detail}), expected what a Trainer wrote;"
            " restore the push it belongs to, or train from scratch."
        ) from None


def check_architecture(saved: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
    """Stops where the saved towers are not the ones that the settings ask for.

    Raises:
      TandemError: names every field that differs, with both values.
    """
    ours, theirs = _flat(wanted), _flat(saved)
    differ = [
        f"{name} is {theirs.get(name)!r} there and {ours.get(name)!r} here"
        for name in sorted(set(ours) | set(theirs))
        if ours.get(name) != theirs.get(name)
    ]
    if differ:
        raise TandemError(
            f"{where}: training state of another architecture: {'; '.join(differ)}."
            " Set them back to warm-start, or train from scratch."
        )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}, "c": [2]} -> {"a.b": 1, "c": [2]}."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, part in value.items():
        flat |= _flat(part, f"{prefix}.{name}" if prefix else str(name))
    return flat


def carry_rows(old: np.ndarray, old_vocabulary: Vocabulary, new_vocabulary: Vocabulary) -> np.ndarray:
    """Moves the rows of a table to where their keys are now.

    Key k at row i of the old table and row j of the new one: new[j] = old[i], bit for bit. A key that is new gets
    row 0, the row of unknown keys; a key that left is dropped; row 0 stays.

    Args:
      old: [old_vocabulary.rows, ...].
      old_vocabulary: keys of the old rows.
      new_vocabulary: keys of the new rows.

    Returns:
      [new_vocabulary.rows, ...].
    """
    place = {key: row for row, key in enumerate(old_vocabulary.keys, start=1)}
    source = np.array([0, *(place.get(key, 0) for key in new_vocabulary.keys)], np.int64)
    return old[source]


def carry_state(state: TrainingState, vocabularies: dict[str, Vocabulary]) -> TrainingState:
    """Moves every keyed table and its slots to new vocabularies; a new key's slots start at 0.

    Raises:
      TandemError: a table's vocabulary is not among the new ones.
    """
    missing = sorted(set(state.keyed.values()) - set(vocabularies))
    if missing:
        raise TandemError(
            f"vocabularies {', '.join(missing)} of the training state are not in this run, expected the same"
            " declared features; set features back, or train from scratch."
        )

    def moved(name: str, value: np.ndarray) -> np.ndarray:
        key = state.keyed.get(name)
        return value if key is None else carry_rows(value, state.vocabularies[key], vocabularies[key])

    def moved_slot(name: str, value: np.ndarray) -> np.ndarray:
        value = moved(name, value)
        if name in state.keyed:
            key = state.keyed[name]
            known = set(state.vocabularies[key].keys)
            is_new = [False, *(k not in known for k in vocabularies[key].keys)]
            value[np.array(is_new)] = 0.0
        return value

    return state._replace(
        vocabularies=vocabularies,
        variables={name: moved(name, value) for name, value in state.variables.items()},
        slots={
            name: {slot: moved_slot(name, value) for slot, value in slots.items()}
            for name, slots in state.slots.items()
        },
    )
