"""What a finished run came to: a pushed version, or a refusal with its reasons."""

import json
import os
from collections.abc import Iterable
from typing import NamedTuple

_REPORT = "push.json"  # written by Pusher into its output


class Verdict(NamedTuple):
    """What Pusher reported.

    Attributes:
      version: the version pushed, None where the candidate was refused.
      path: its directory, "" where there is none.
      refused: why it was refused, one line a reason.
      gates: file with the table of all gates.
    """

    version: int | None
    path: str
    refused: list[str]
    gates: str


def verdict(outputs: Iterable[str]) -> Verdict | None:
    """Pusher's report, None where no step has written one.

    Args:
      outputs: directories of the run's artifacts.
    """
    for directory in outputs:
        path = os.path.join(directory, _REPORT)
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                return Verdict(**json.load(file))
    return None
