"""Searches the indexes of a version for `serving.index_process`, without TensorFlow: `python -m serving.index_worker`.

Messages are a length and so many bytes. The first to come says whether the indexes are loaded; then each request is
answered by a message. It ends when the other side has gone.
"""

import json
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.background import Pace
from serving.index import load_searcher
from serving.manifest import BundleError

_LENGTH = struct.Struct("<q")
# Which index, queries and their length, and ScaNN's three numbers: k, compared in full, partitions.
_REQUEST = struct.Struct("<6q")
# Queries, k; or -1 and nothing, and behind it what is wrong.
_ANSWER = struct.Struct("<2q")

Found = tuple[NDArray[np.int64], NDArray[np.float32]]


def send(channel: socket.socket, *parts: bytes) -> None:
    """Sends the parts as one message."""
    whole = b"".join(parts)
    channel.sendall(_LENGTH.pack(len(whole)) + whole)


def receive(channel: socket.socket) -> bytes:
    """The next message.

    Raises:
      EOFError: the other side has gone.
    """
    return _exactly(channel, *_LENGTH.unpack(_exactly(channel, _LENGTH.size)))


def encode_request(number: int, queries: NDArray[np.float32], options: Sequence[int]) -> bytes:
    """A search: the index's number, float32 [B, D], and k, compared in full and partitions, -1 as the index was built."""
    return _REQUEST.pack(number, *queries.shape, *options) + queries.tobytes()


def decode_answer(message: bytes) -> Found:
    """Rows and scores of a search, both [B, k].

    Raises:
      RuntimeError: ScaNN refused it.
    """
    rows, k = _ANSWER.unpack_from(message)
    rest = message[_ANSWER.size :]
    if rows < 0:
        raise RuntimeError(rest.decode())
    found = np.frombuffer(rest, np.int64, rows * k).reshape(rows, k)
    return found, np.frombuffer(rest, np.float32, rows * k, found.nbytes).reshape(rows, k)


def main(words: Sequence[str]) -> None:
    """Loads and answers.

    Args:
      words: file descriptor of a connected socket, niceness of loading, and the directories of the indexes.
    """
    # Signals to the whole group are for the server, which answers what it has before it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel, nice, directories = socket.socket(fileno=int(words[0])), int(words[1]), words[2:]
    try:
        searchers = Pace(0, nice).without_lock(lambda: [load_searcher(Path(each)) for each in directories])
    except BundleError as error:
        return send(channel, json.dumps({"error": str(error)}).encode())
    send(channel, json.dumps({"configs": [searcher.config for searcher in searchers]}).encode())
    while True:
        try:
            message = receive(channel)
        except EOFError:
            return None
        number, rows, dimension, *options = _REQUEST.unpack_from(message)
        queries = np.frombuffer(message, np.float32, rows * dimension, _REQUEST.size).reshape(rows, dimension)
        try:
            found, scores = searchers[number].search_batched(queries, *options)
        except RuntimeError as error:
            send(channel, _ANSWER.pack(-1, 0), str(error).encode())
            continue
        send(
            channel,
            _ANSWER.pack(*found.shape),
            found.astype(np.int64).tobytes(),
            np.asarray(scores, np.float32).tobytes(),
        )


def _exactly(channel: socket.socket, size: int) -> bytes:
    whole = bytearray(size)
    rest = memoryview(whole)
    while rest:
        count = channel.recv_into(rest)
        if not count:
            raise EOFError("the other side has gone")
        rest = rest[count:]
    return bytes(whole)


if __name__ == "__main__":
    main(sys.argv[1:])
