"""Memory of the process, given back when it is not needed."""

import contextlib
import ctypes
import gc


def give_back_memory() -> None:
    """Frees what only cycles hold, too, and returns it."""
    gc.collect()
    return_freed_memory()


def return_freed_memory() -> None:
    """Has the C library return freed memory to the system, of which it keeps hundreds of megabytes."""
    with contextlib.suppress(OSError, AttributeError):  # only glibc has that, and needs it
        ctypes.CDLL(None).malloc_trim(0)
