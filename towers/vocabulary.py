"""Vocabularies of the transform graph: which key stands behind which embedding row."""

from typing import Any, NamedTuple

import numpy as np

from transform.errors import TandemError
from transform.features import EVENT_TYPE_VOCABULARY, ITEM_ID_COUNTS, ITEM_ID_VOCABULARY
from transform.settings import FeatureSettings


class Vocabulary(NamedTuple):
    """Keys in row order; row 0 of every table stands for "none or unknown", so key i owns row i + 1.

    Attributes:
      name: of the vocabulary file.
      keys: distinct strings.
      counts: int64 [len(keys)], 1 + number of training targets; None where Transform does not count.
    """

    name: str
    keys: tuple[str, ...]
    counts: np.ndarray | None = None

    @property
    def rows(self) -> int:
        """Rows of a table over this vocabulary, row 0 included."""
        return len(self.keys) + 1


def load_vocabularies(transform_output: Any, features: FeatureSettings) -> dict[str, Vocabulary]:
    """Reads every vocabulary that a table of the towers is keyed by.

    Args:
      transform_output: a `tft.TFTransformOutput`.
      features: declared features.

    Returns:
      Name -> vocabulary: item_id with counts, event_type, and one per category or path feature.

    Raises:
      TandemError: a vocabulary is missing, or keys and counts are not of one run.
    """
    names = [ITEM_ID_VOCABULARY, EVENT_TYPE_VOCABULARY]
    declared = (*features.item, *features.user, *features.context)
    names += [feature.name for feature in declared if feature.kind != "number"]
    vocabularies = {name: Vocabulary(name, _read(transform_output, name)) for name in names}
    keys, counts = _split_counts(_read(transform_output, ITEM_ID_COUNTS))
    items = vocabularies[ITEM_ID_VOCABULARY]
    if keys != items.keys:
        raise TandemError(
            f"vocabulary {ITEM_ID_COUNTS} has {len(keys)} keys that are not {ITEM_ID_VOCABULARY}'s"
            f" {len(items.keys)} in the same order, expected the outputs of one Transform run; run it again."
        )
    vocabularies[ITEM_ID_VOCABULARY] = items._replace(counts=counts)
    return vocabularies


def _read(transform_output: Any, name: str) -> tuple[str, ...]:
    try:
        keys = transform_output.vocabulary_by_name(name)
    except (OSError, ValueError) as error:
        raise TandemError(
            f"vocabulary {name}: not in the transform output ({error}), expected one for each declared feature;"
            " run Transform again with these settings."
        ) from None
    return tuple(key.decode("utf-8", errors="surrogateescape") for key in keys)


def _split_counts(lines: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray]:
    """("12 mug", "3 tea cup") -> ("mug", "tea cup"), [12, 3]."""
    pairs = [line.split(" ", 1) for line in lines]
    return tuple(pair[1] for pair in pairs), np.array([int(float(pair[0])) for pair in pairs], np.int64)
