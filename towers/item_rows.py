"""Which row of a state's tables an item has, looked up in files that are mapped: no worker holds the catalogue for it."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from transform.errors import TandemError

_DIGESTS, _ROWS = "item_digests.npy", "item_rows.npy"
_DIGEST_BYTES = 12  # of a thousand million items, the chance that two share one is 10^-11


class ItemRows:
    """Rows by item id; what it reads of its files is the pages that a search comes by."""

    def __init__(self, directory: str | Path) -> None:
        """Maps the files.

        Raises:
          TandemError: they are missing or damaged.
        """
        try:
            self._digests = np.load(Path(directory, _DIGESTS), mmap_mode="r")
            self._rows = np.load(Path(directory, _ROWS), mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise TandemError(
                f"{directory}: the rows of items cannot be read ({error}), expected what a Trainer wrote; train again."
            ) from None
        self._directory = directory

    def of(self, item_ids: Sequence[bytes]) -> np.ndarray:
        """The rows of B items, int64 [B].

        Raises:
          TandemError: an item has none.
        """
        wanted = _digests(item_ids)
        places = np.minimum(np.searchsorted(self._digests, wanted), len(self._digests) - 1)
        unknown = (
            np.flatnonzero(self._digests[places] != wanted) if len(self._digests) else range(len(wanted))
        )
        if len(unknown):
            raise TandemError(
                f"{self._directory}: no row for item {item_ids[unknown[0]].decode('utf-8', 'replace')!r}, and"
                f" {len(unknown) - 1} others of {len(item_ids)}; expected the state of a Trainer that had this catalogue."
            )
        return np.asarray(self._rows[places])


def save_item_rows(directory: str | Path, item_ids: Iterable[str]) -> None:
    """Writes the rows of a vocabulary's items: the first has row 1, since row 0 stands for unknown ones."""
    digests = _digests(item.encode() for item in item_ids)
    order = np.argsort(digests)
    np.save(Path(directory, _DIGESTS), digests[order])
    np.save(Path(directory, _ROWS), order + 1)


def _digests(item_ids: Iterable[bytes]) -> np.ndarray:
    """Item ids as bytes of one length without a zero among them, in which NumPy can search: S16 [N]."""
    return np.array(
        [base64.b64encode(hashlib.blake2b(item, digest_size=_DIGEST_BYTES).digest()) for item in item_ids],
        f"S{_DIGEST_BYTES * 4 // 3}",
    )
