"""Memory of the process: taken before it is needed, and given back when it is not."""

import contextlib
import ctypes
import gc

import numpy as np


def claim_memory(size: int) -> None:
    """Takes so many bytes and gives them back, without the interpreter lock, before something takes them that holds it.

    A virtual machine may have to ask its host for memory that nobody in it used lately, which takes ten times as long.
    """
    np.empty(size, np.uint8).fill(1)


def give_back_memory() -> None:
    """Frees what only cycles hold, and has the C library return freed memory, of which it keeps hundreds of megabytes."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # only glibc has that, and needs it
        ctypes.CDLL(None).malloc_trim(0)
