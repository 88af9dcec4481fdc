"""Runs `tandem` as it is, but stops for good once a push has copied its second file, so that a kill hits it half-done."""

import os
import sys
import time

from pipeline.cli import main

PUSHING = "a push is half done"


def hang_in_push() -> None:
    """Makes the third fsync of the process wait for ever; publishing a bundle syncs every file that it copies."""
    sync, calls = os.fsync, []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 3:
            print(PUSHING, flush=True)
            time.sleep(3600)
        sync(handle)

    os.fsync = fsync


if __name__ == "__main__":
    hang_in_push()
    sys.exit(main())
