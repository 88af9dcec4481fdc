"""Which versions of a push directory are served, and by which names: TensorFlow Serving's version policies."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple


class VersionChoice(NamedTuple):
    """The newest so many (TensorFlow Serving's `latest`), some by number (`specific`), or every one (`all`).

    Attributes:
      latest: how many of the newest ones that load; none: no bound.
      specific: the only ones to load; none: any.
      labels: label -> version, such as {"stable": 1767225600, "canary": 1767312000}.
    """

    latest: int | None = 1
    specific: frozenset[int] | None = None
    labels: Mapping[str, int] = MappingProxyType({})

    def candidates(self, versions: Sequence[int]) -> list[int]:
        """Those that may be loaded, newest first: the first `latest` of them that load are served.

        [1, 2, 5] is [5, 2, 1] for `latest` and `all`, and [5, 1] for `specific` {1, 5, 7}.
        """
        return sorted((v for v in versions if self.specific is None or v in self.specific), reverse=True)


NEWEST = VersionChoice()
