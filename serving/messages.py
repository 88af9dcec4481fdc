"""Messages between a process and its children: any object, behind its length.

They are pickled, which is safe between two ends of one program: what a client sends is inside them as arrays.
"""

import os
import pickle
import signal
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from serving.background import COMPUTING_NICE, give_way
from serving.manifest import BundleError

Answer = Callable[[tuple[Any, ...]], Any]

_LENGTH = struct.Struct("<q")


def send(channel: socket.socket, message: Any) -> None:
    """Sends a message.

    Raises:
      OSError: the other side has gone, or took too long to take it.
    """
    channel.sendall(_packed(message))


def receive(channel: socket.socket) -> Any:
    """The next message.

    Raises:
      EOFError: the other side has gone.
      OSError: it took too long.
    """
    return pickle.loads(_exactly(channel, *_LENGTH.unpack(_exactly(channel, _LENGTH.size))))


def answer_requests(descriptors: str, get_ready: Callable[[], Answer]) -> None:
    """A child's part: answers until the other side has gone, and ends the process then.

    A request is answered by (none, answer) or (exception, none), in a thread of its channel.

    Args:
      descriptors: of connected sockets, with commas between them.
      get_ready: returns what answers a request; where it raises a `BundleError`, that is the answer to each.
    """
    # Signals to the whole group are for the server, which answers what it has before it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channels = [socket.socket(fileno=int(number)) for number in descriptors.split(",")]
    try:
        answer = get_ready()
    except BundleError as error:
        answer = _refusing(error)
    threads = [threading.Thread(target=_converse, args=(channel, answer)) for channel in channels]
    for thread in threads:
        thread.start()
    threads[0].join()
    os._exit(0)  # nobody waits for what is still computed


def _refusing(error: BundleError) -> Answer:
    def answer(request: tuple[Any, ...]) -> Any:
        raise error

    return answer


def _converse(channel: socket.socket, answer: Answer) -> None:
    give_way(COMPUTING_NICE)
    while True:
        try:
            request = receive(channel)
            channel.sendall(_reply(answer, request))
        except (OSError, EOFError):
            return


def _reply(answer: Answer, request: tuple[Any, ...]) -> bytes:
    try:
        return _packed((None, answer(request)))
    except Exception as error:  # of an answer that cannot be sent, too
        return _packed((_plain(error), None))


def _packed(message: Any) -> bytes:
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


def _plain(error: Exception) -> Exception:
    """The error, without what cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        import tensorflow as tf

        if isinstance(error, tf.errors.OpError):  # it holds the operation
            return type(error)(None, None, error.message)
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _exactly(channel: socket.socket, size: int) -> bytearray:
    whole = bytearray(size)
    rest = memoryview(whole)
    while rest:
        count = channel.recv_into(rest)
        if not count:
            raise EOFError("the other side has gone")
        rest = rest[count:]
    return whole
