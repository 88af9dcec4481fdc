"""Whether a server's memory stays flat: minutes of questions, and what its process held meanwhile."""

import argparse
import sys
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.load_client import Load, measure
from benchmarks.processes import tandem
from benchmarks.serving import ROWS, batching, write_queries
from benchmarks.serving_report import SOAK, publish
from transform.errors import TandemError
from transform.runtime import prepare_environment

_EVERY_SECONDS = 10.0


def main() -> int:
    """Measures, writes JSON and the section of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--push-dir", type=Path, required=True, help="directory of pushed versions")
    parser.add_argument("--data", type=Path, required=True, help="dataset directory whose queries are asked")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--work", type=Path, default=Path("work/serving"), help="where inputs are kept")
    options = parser.parse_args()
    prepare_environment()
    rss: list[float] = []
    over = threading.Event()
    try:
        queries = write_queries(options.data, options.work)
        with tandem(options.push_dir, *batching(options.work)) as server:

            def watch() -> None:
                while not over.wait(_EVERY_SECONDS):
                    rss.append(round(server.rss_mb(), 1))

            watching = threading.Thread(target=watch)
            watching.start()
            begin, requests, failed = time.monotonic(), 0, 0
            try:
                while time.monotonic() < begin + 60 * options.minutes:
                    for rows in ROWS:
                        part = measure(Load("grpc", server.address, str(queries), rows, 16, 0, 30.0))
                        requests, failed = requests + len(part.started), failed + int((~part.answered).sum())
            finally:
                over.set()
                watching.join()
    except TandemError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    half = rss[len(rss) // 2 :]
    slope = float(np.polyfit(np.arange(len(half)) * _EVERY_SECONDS / 60, half, 1)[0])
    result = {
        "minutes": options.minutes,
        "requests": requests,
        "failed": failed,
        "every_seconds": _EVERY_SECONDS,
        "rss_mb": rss,
        "mb_a_minute_in_the_second_half": round(slope, 2),
    }
    publish(SOAK, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
