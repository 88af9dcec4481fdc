"""Answers that were given before, by version, state of its catalogue and request: the same question has one answer."""

import collections
import hashlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

Key = tuple[int, int, bytes]


class AnswerCache:
    """Keeps the answers that were asked for last, up to a size; safe to share between threads.

    Requests are kept as their BLAKE2b hash, so nothing in it tells what was asked. A new version's answers drive
    out the old one's as they come.

    Attributes:
      hits: questions that were answered from it.
      misses: those that were not.
    """

    def __init__(self, max_bytes: int) -> None:
        self.hits = 0
        self.misses = 0
        self._most = max_bytes
        self._size = 0
        self._lock = threading.Lock()
        self._answers: collections.OrderedDict[Key, bytes] = collections.OrderedDict()

    def get(self, version: int, changes: int, request: "PredictRequest") -> tuple[Key, bytes | None]:
        """The key of a question, for `put`, and its answer, a serialised `PredictResponse`, if it is there.

        Args:
          version: that is asked.
          changes: number of the state of its catalogue, taken before the answer is made: an answer may then be newer
            than its key, and never older.
          request: the question.
        """
        digest = hashlib.blake2b(request.SerializeToString(deterministic=True), digest_size=32).digest()
        key = (version, changes, digest)
        with self._lock:
            answer = self._answers.get(key)
            if answer is None:
                self.misses += 1
                return key, None
            self.hits += 1
            self._answers.move_to_end(key)
        return key, answer

    def put(self, key: Key, answer: bytes) -> None:
        """Keeps an answer, unless it alone is larger than the cache; lets go of the oldest to make room."""
        with self._lock:
            if key in self._answers or len(answer) > self._most:
                return
            self._answers[key] = answer
            self._size += len(answer)
            while self._size > self._most:
                self._size -= len(self._answers.popitem(last=False)[1])
