"""Something that is done again and again in a thread of its own while the server runs."""

import threading
from collections.abc import Callable

_STOP_SECONDS = 10.0


class Repeated:
    """Calls a function, waits, and calls it again, until it is stopped.

    Args:
      call: what to do; it must not raise.
      seconds: between two calls.
      name: of the thread.
    """

    def __init__(self, call: Callable[[], None], seconds: float, name: str) -> None:
        self._call = call
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begins, at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it; returns when the thread is over, or after a while."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._call()
            self._stopped.wait(self._seconds)
