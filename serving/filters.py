"""Filters of a request: optional inputs of `serving_default` and `exact` that say which items may be answered."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serving.item_attributes import ItemAttributes
from serving.request_inputs import RequestError
from transform.features import (
    ATTRIBUTE_FILTER,
    EXCLUDE_HISTORY,
    EXCLUDE_ITEM_IDS,
    FILTER_ITEM_IDS,
    HISTORY_ITEM_IDS,
)

if TYPE_CHECKING:
    pass

Arrays = Mapping[str, NDArray[Any]]
Mask = NDArray[np.bool_]


class Filters:
    """What requests to one bundle may be filtered by; safe to share between threads.

    An item is eligible when it passes every filter of a request. A list without an entry, or of "" only, does not
    filter; what no item has, lets none through.

    Attributes:
      specs: input name -> `tf.TensorSpec`: `filter_NAME` [B, n] string for a declared category or path feature of
        items (one of these values; a path stands for all below it), [B, 2] float32 for a number (from, to, both
        included; NaN for an open end; an item without the number does not pass); `filter_item_ids` [B, n] (only
        these), `exclude_item_ids` [B, n] (not these); `exclude_history` [B] bool (none of `history_item_ids`).
    """

    def __init__(
        self,
        attributes: ItemAttributes | None,
        size: int,
        row_of: Callable[[bytes], int | None],
        taken: Iterable[str] = (),
    ) -> None:
        """Takes the attributes, the number of items, where an id is, and names that are other inputs' already."""
        import tensorflow as tf

        self._attributes = attributes
        self._size = size
        self._row_of = row_of
        texts, numbers = tf.TensorSpec([None, None], tf.string), tf.TensorSpec([None, 2], tf.float32)
        kinds = attributes.kinds if attributes else {}
        specs = {
            f"{ATTRIBUTE_FILTER}{name}": numbers if kind == "number" else texts
            for name, kind in kinds.items()
        }
        specs |= {FILTER_ITEM_IDS: texts, EXCLUDE_ITEM_IDS: texts}
        specs[EXCLUDE_HISTORY] = tf.TensorSpec([None], tf.bool)
        self.specs: dict[str, tf.TensorSpec] = {n: spec for n, spec in specs.items() if n not in set(taken)}

    def check_names(self, names: Iterable[str], version: int) -> None:
        """Refuses filters by attributes where the bundle has none.

        Raises:
          RequestError: FAILED_PRECONDITION.
        """
        if self._attributes is not None:
            return
        for name in sorted(names):
            if name.startswith(ATTRIBUTE_FILTER) and name not in self.specs:
                raise RequestError(
                    "FAILED_PRECONDITION",
                    f"input {name[:100]!r} filters by an attribute of items, and version {version} holds none, expected"
                    " a bundle of declared item features, pushed since filters exist: push again, or leave it out",
                )

    def check_values(self, inputs: Arrays) -> None:
        """Refuses ranges that nothing can be within.

        Raises:
          RequestError: INVALID_ARGUMENT.
        """
        for name in self.in_use(inputs):
            if self.specs[name].shape[-1] == 2:
                for least, most in inputs[name].tolist():
                    if least > most:
                        raise RequestError(
                            "INVALID_ARGUMENT",
                            f"input {name!r} holds the range {least:g} to {most:g}, expected the lower end first, or NaN"
                            " for an open one",
                        )

    def in_use(self, inputs: Arrays) -> list[str]:
        """Which inputs are filters."""
        return [name for name in self.specs if name in inputs]

    def eligible(self, inputs: Arrays, request: int) -> Mask | None:
        """The items that pass every filter of one request.

        Args:
          inputs: of the whole batch, `history_item_ids` among them.
          request: which of its rows.

        Returns:
          bool [N]; none where the request is not filtered.
        """
        masks = [self._passing(name, inputs[name][request], inputs, request) for name in self.in_use(inputs)]
        given = [mask for mask in masks if mask is not None]
        return np.logical_and.reduce(given) if given else None

    def _passing(self, name: str, value: Any, inputs: Arrays, request: int) -> Mask | None:
        if name == EXCLUDE_HISTORY:
            return ~self._listed(inputs[HISTORY_ITEM_IDS][request]) if value else None
        if value.dtype == np.float32:
            least, most = value.tolist()
            assert self._attributes
            if np.isnan(least) and np.isnan(most):
                return None
            return self._attributes.within(name.removeprefix(ATTRIBUTE_FILTER), least, most)
        values = [entry for entry in value.tolist() if entry]
        if not values:
            return None
        if name in (FILTER_ITEM_IDS, EXCLUDE_ITEM_IDS):
            listed = self._listed(value)
            return listed if name == FILTER_ITEM_IDS else ~listed
        assert self._attributes
        return self._attributes.among(name.removeprefix(ATTRIBUTE_FILTER), values)

    def _listed(self, item_ids: NDArray[Any]) -> Mask:
        mask = np.zeros(self._size, np.bool_)
        rows = map(self._row_of, item_ids.tolist())
        mask[[row for row in rows if row is not None]] = True
        return mask
