"""What a swap costs: latency and failed requests at half load while versions follow each other, and without."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load_client import Load, Measured, measure
from benchmarks.processes import Process, tandem
from benchmarks.serving import batching, write_queries
from benchmarks.serving_report import SWAPS, publish, read_result
from serving.bundle import newest_version, read_manifest
from serving.client import wait_until_available
from serving.manifest import MANIFEST, write_manifest
from transform.errors import TandemError
from transform.runtime import prepare_environment

_SETTLE_SECONDS = 1.0  # after a swap the replaced version is given back


def stage(bundle: Path, directory: Path, version: int) -> Path:
    """The bundle as another version, its files shared with the first."""
    copy = directory / str(version)
    shutil.copytree(bundle, copy, copy_function=os.link)
    (copy / MANIFEST).unlink()
    write_manifest(copy, read_manifest(bundle).model_copy(update={"version": version}))
    return copy


def swap(server: Process, staged: Path, push_dir: Path) -> tuple[float, float]:
    """Makes a version visible and takes out those before it; returns when it began and when it was over."""
    version = int(staged.name)
    older = [path for path in push_dir.iterdir() if path.name.isdigit()]
    begin = time.monotonic()
    os.rename(staged, push_dir / staged.name)
    wait_until_available(server.address, timeout_seconds=300, version=version)
    time.sleep(_SETTLE_SECONDS)
    end = time.monotonic()
    for path in older:
        shutil.rmtree(path)
    return begin, end


def under_swaps(server: Process, load: Load, swaps: list[Path], push_dir: Path) -> dict[str, Any]:
    """Swaps one version after another while the load goes on, as often as that takes.

    Raises:
      TandemError: a version did not take over.
      OSError: one could not be put into the push directory, or taken out.
    """
    windows: list[tuple[float, float]] = []
    rss = [server.rss_mb()]

    def swap_all() -> None:
        for staged in swaps:
            windows.append(swap(server, staged, push_dir))
            rss.append(server.rss_mb())

    parts = []
    with ThreadPoolExecutor(1) as pool:
        swapping = pool.submit(swap_all)
        while not swapping.done():
            parts.append(measure(load))
        swapping.result()
    whole = Measured(*(np.concatenate([part[n] for part in parts]) for n in range(3)), load.rows)
    during = np.zeros(len(whole.started), bool)
    for begin, end in windows:
        during |= (whole.started >= begin) & (whole.started <= end)
    chosen = Measured(whole.started[during], whole.milliseconds[during], whole.answered[during], load.rows)
    return {
        "swaps": len(windows),
        "seconds_of_a_swap": round(float(np.mean([end - begin for begin, end in windows])), 1),
        "during": chosen.summary(),
        "all": whole.summary(),
        "rss_mb": [round(mb) for mb in rss],
    }


def main() -> int:
    """Measures, writes JSON and the section of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--push-dir", type=Path, required=True, help="directory of pushed versions")
    parser.add_argument("--data", type=Path, required=True, help="dataset directory whose queries are asked")
    parser.add_argument(
        "--rate", type=float, default=0.0, help="queries a second (default: half of what was measured)"
    )
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0, help="without swaps (default: 60)")
    parser.add_argument("--work", type=Path, default=Path("work/serving"), help="where inputs are kept")
    options = parser.parse_args()
    prepare_environment()
    try:
        queries = write_queries(options.data, options.work)
        rate = options.rate or 0.5 * max(
            m["queries_a_second"] for m in read_result("serving")["tandem"] if m["rows"] == 1
        )
        bundle = options.push_dir / str(newest_version(options.push_dir))
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            push_dir, staging = Path(folder, "push"), Path(folder, "staging")
            first = int(bundle.name)
            stage(bundle, push_dir, first)
            staged = [stage(bundle, staging, first + number) for number in range(1, options.swaps + 1)]
            with tandem(push_dir, *batching(options.work)) as server:
                load = Load("grpc", server.address, str(queries), 1, 0, rate, options.seconds)
                measure(load._replace(seconds=10.0))  # warms up
                without = measure(load).summary()
                print(without, flush=True)
                result = under_swaps(server, load, staged, push_dir)
    except TandemError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    result = {"rate": round(rate, 1), "without": without, **result}
    publish(SWAPS, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
