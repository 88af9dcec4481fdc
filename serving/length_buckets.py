"""Which queries are encoded together: those of like length, since a call encodes every row as long as its longest."""

import re

import numpy as np
from numpy.typing import NDArray

# Words, numbers and signs, as BERT's tokenizer splits before it looks for pieces.
_WORDS = re.compile(rb"[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9]")
_LETTERS, _DIGITS = 8, 3  # about so many of them make one token
_ENDS = 2  # the tokens at the beginning and at the end
# What a call costs beyond its tokens, in tokens: it reads all weights once, however few rows it has.
_CALL = 40
_LONGEST = 128  # encoders cut texts; beyond that, lengths are alike


def estimated_tokens(text: bytes | str) -> int:
    """How many tokens a text will have, more or less: a wrong guess costs time and changes no answer."""
    if not text:
        return 1
    words = _WORDS.findall(text if isinstance(text, bytes) else text.encode())
    pieces = (1 + (len(word) - 1) // (_DIGITS if word.isdigit() else _LETTERS) for word in words)
    return min(_LONGEST, _ENDS + sum(pieces))


def length_buckets(lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Splits rows into calls so that calls and padded tokens together cost least.

    A call of n rows costs _CALL + n * its longest. [3, 30, 3] with many of each -> [0, 2, ...], [1, ...]

    Args:
      lengths: int64 [B], above 0.

    Returns:
      Positions of the rows of each call, every row once.
    """
    order = np.argsort(lengths, kind="stable")
    ends = np.flatnonzero(np.diff(lengths[order], append=-1)) + 1  # rows up to each distinct length
    places = [0, *ends.tolist()]
    longest = [0, *lengths[order[ends - 1]].tolist()]
    cost, start = [0.0], [0]
    for last in range(1, len(places)):
        best = min(
            range(last), key=lambda first: cost[first] + (places[last] - places[first]) * longest[last]
        )
        cost.append(cost[best] + _CALL + (places[last] - places[best]) * longest[last])
        start.append(best)
    calls, last = [], len(places) - 1
    while last:
        calls.append(order[places[start[last]] : places[last]])
        last = start[last]
    return calls[::-1]
