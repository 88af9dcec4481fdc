"""One run at a time a push directory."""

import contextlib
import datetime
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from transform.errors import TandemError

_NAME = ".run.lock"


class AnotherRun(TandemError):
    """Another run holds the push directory."""

    exit_status = 4


@contextmanager
def only_run(push_dir: str) -> Iterator[None]:
    """Holds the push directory's lock; the system lets go of it when the process ends, however it ends.

    Args:
      push_dir: an existing directory.

    Raises:
      AnotherRun: says which process holds the lock, since when.
    """
    file = os.open(os.path.join(push_dir, _NAME), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace").strip() or "another process"
            raise AnotherRun(
                f"another run pushes to {push_dir!r} ({holder}); expected one at a time: wait for it to end."
            ) from None
        holder = f"process {os.getpid()} since {datetime.datetime.now().isoformat(timespec='seconds')}"
        with contextlib.suppress(OSError):  # who holds it is only told; a full disk is found where it matters
            os.truncate(file, 0)
            os.write(file, holder.encode())
        yield
    finally:
        os.close(file)
