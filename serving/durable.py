"""What it takes for a new name in a directory to outlive a loss of power."""

import os


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Waits until the names in a directory are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
