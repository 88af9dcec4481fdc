"""What a client says about the items it wants, as inputs of a request."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from transform.features import ATTRIBUTE_FILTER, EXCLUDE_HISTORY, EXCLUDE_ITEM_IDS, FILTER_ITEM_IDS


class ItemFilter(NamedTuple):
    """Which items may be answered; an item must pass all of it.

    Attributes:
      values: category or path feature of items -> one of these; a path stands for all below it.
      ranges: number feature of items -> lowest and highest; none for an open end.
      only: item ids, of which none other may be answered.
      without: item ids that must not be answered.
      exclude_history: whether what is in the history must not be answered.
    """

    values: Mapping[str, Sequence[str]] = MappingProxyType({})
    ranges: Mapping[str, tuple[float | None, float | None]] = MappingProxyType({})
    only: Sequence[str] = ()
    without: Sequence[str] = ()
    exclude_history: bool = False

    def inputs(self) -> dict[str, Any]:
        """The inputs of a batch of one that say so."""
        inputs: dict[str, Any] = {
            f"{ATTRIBUTE_FILTER}{name}": [list(values)] for name, values in self.values.items()
        }
        for name, ends in self.ranges.items():
            inputs[f"{ATTRIBUTE_FILTER}{name}"] = [[float("nan") if end is None else end for end in ends]]
        if self.only:
            inputs[FILTER_ITEM_IDS] = [list(self.only)]
        if self.without:
            inputs[EXCLUDE_ITEM_IDS] = [list(self.without)]
        if self.exclude_history:
            inputs[EXCLUDE_HISTORY] = [True]
        return inputs


NO_FILTER = ItemFilter()
