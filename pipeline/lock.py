"""One run at a time a push directory."""

import datetime
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from transform.errors import TandemError

_NAME = ".run.lock"


@contextmanager
def only_run(push_dir: str) -> Iterator[None]:
    """Holds the push directory's lock; the system lets go of it when the process ends, however it ends.

    Args:
      push_dir: an existing directory.

    Raises:
      TandemError: another run holds the lock; says which process, since when.
    """
    path = os.path.join(push_dir, _NAME)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise TandemError(
                f"another run pushes to {push_dir!r} ({holder}); expected one at a time: wait for it to end."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} since {datetime.datetime.now().isoformat(timespec='seconds')}")
        file.flush()
        yield
