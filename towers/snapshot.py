"""Between a live model with its optimizer and a training state."""

from typing import Any

import keras
import numpy as np

from towers.state import TrainingState
from towers.two_tower import TwoTower
from towers.vocabulary import Vocabulary
from transform.errors import TandemError


def take_snapshot(
    model: TwoTower,
    architecture: dict[str, Any],
    vocabularies: dict[str, Vocabulary],
    keyed: dict[str, str],
    step: int,
) -> TrainingState:
    """Copies weights, slots, step and loss scale out of a compiled model.

    A frozen encoder is not copied: its preset is part of the architecture.

    Args:
      model: compiled; its optimizer is built.
      architecture: what the next run must have in common.
      vocabularies: of this run.
      keyed: variable path -> vocabulary name.
      step: optimizer steps over all runs.
    """
    optimizer = model.optimizer
    scale = None
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        scale = float(np.asarray(optimizer.dynamic_scale))
    return TrainingState(
        architecture=architecture,
        step=step,
        loss_scale=scale,
        vocabularies=vocabularies,
        keyed=keyed,
        variables={variable.path: np.asarray(variable) for variable in _variables(model)},
        slots={
            path: {name: np.asarray(slot) for name, slot in slots.items()}
            for path, slots in _slots(optimizer).items()
        },
    )


def restore_snapshot(model: TwoTower, state: TrainingState) -> None:
    """Copies a state, already carried over to the model's vocabularies, into a compiled model.

    An item that this run learns for the first time starts from the row of unknown items, which it has had until now,
    and not from whatever its own row held: so no item's vector moves before the first step.

    Raises:
      TandemError: a variable is missing, or of another shape.
    """
    live = {variable.path: variable for variable in _variables(model)}
    differ = [f"{name} is not in it" for name in sorted(set(live) - set(state.variables))]
    differ += [f"{name} is unknown here" for name in sorted(set(state.variables) - set(live))]
    differ += [
        f"{name} is {list(state.variables[name].shape)} there and {list(variable.shape)} here"
        for name, variable in live.items()
        if name in state.variables and tuple(state.variables[name].shape) != tuple(variable.shape)
    ]
    if differ:
        raise TandemError(
            f"training state of another model: {'; '.join(differ)};"
            " set the model back to warm-start, or train from scratch."
        )
    own_seen = np.asarray(model.item_tower.seen)
    for name, variable in live.items():
        variable.assign(state.variables[name])
    # An item counts as seen once it was a target, in this run or any before.
    tower = model.item_tower
    ids, seen = np.array(tower.ids), np.asarray(tower.seen)
    ids[(own_seen > 0) & (seen == 0)] = ids[0]
    tower.ids.assign(ids)
    tower.seen.assign(np.maximum(seen, own_seen))
    optimizer: Any = model.optimizer
    for path, slots in _slots(optimizer).items():
        for name, slot in slots.items():
            if name in state.slots.get(path, {}):
                slot.assign(state.slots[path][name])
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner.iterations.assign(state.step)
    if state.loss_scale is not None and isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer.dynamic_scale.assign(state.loss_scale)


def _variables(model: TwoTower) -> list[Any]:
    left_out = {id(variable) for variable in model.metrics_variables}
    if not model.encoder.trainable:
        left_out |= {id(variable) for variable in model.encoder.variables}
    if model.cooccurrence is not None:  # each run makes it anew
        left_out |= {id(variable) for variable in model.cooccurrence.variables}
    return [v for v in model.variables if id(v) not in left_out and "seed_generator" not in v.path]


def _slots(optimizer: Any) -> dict[str, dict[str, Any]]:
    """Variable path -> slot name -> slot variable."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return {
        variable.path: {"momentum": momentum, "velocity": velocity}
        for variable, momentum, velocity in zip(
            inner._trainable_variables, inner._momentums, inner._velocities, strict=True
        )
    }
