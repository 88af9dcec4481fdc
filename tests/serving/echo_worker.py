"""A child that does as it is asked; its last word is a file that says whether it gets ready."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from serving.background import aside
from serving.manifest import BundleError
from serving.messages import Answer, answer_requests


def scheduled() -> tuple[int, int]:
    """Policy and niceness of the calling thread."""
    return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def ready(is_aside: bool, file: Path) -> Answer:
    text = file.read_text()
    if text == "dies":
        os._exit(3)
    if text != "ready":
        raise BundleError(f"{file} says {text!r}, expected 'ready'")
    loaded = aside(scheduled) if is_aside else scheduled()

    def answer(request: tuple[Any, ...]) -> Any:
        match request:
            case ():
                return os.getpid(), loaded
            case "raise", error:
                raise error
            case "sleep", seconds:
                time.sleep(seconds)
            case ("scheduled",):
                return scheduled()
            case ("thread",):
                return threading.get_native_id()
            case ("unsendable",):
                return threading.Lock()
            case ("die",):
                os.kill(os.getpid(), signal.SIGKILL)
            case "die once", flag:
                if not Path(flag).exists():
                    Path(flag).touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return request

    return answer


if __name__ == "__main__":
    answer_requests(sys.argv[1], lambda: ready(sys.argv[2] == "1", Path(sys.argv[3])))
