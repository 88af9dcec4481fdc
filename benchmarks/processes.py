"""Servers in processes of their own, as the serving benchmarks start and end them."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.environment import ROOT
from serving.client import wait_until_available
from transform.errors import TandemError


class Process:
    """A server that has said where it listens; ends with its `with` statement.

    Attributes:
      address: host:port.
      log: the lines that it has written to standard error.
    """

    def __init__(self, command: Sequence[str], said: str) -> None:
        """Starts it and reads its log up to a line with `said` and the address."""
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        assert self._process.stderr
        self.log: list[str] = []
        for line in self._process.stderr:
            self.log.append(line)
            if said in line:
                break
        else:
            raise TandemError(f"{' '.join(command)} ended: {''.join(self.log[-3:])}")
        self.address = line.split(said)[1].split()[0]
        self._reader = threading.Thread(target=self.log.extend, args=(self._process.stderr,), daemon=True)
        self._reader.start()  # a full pipe would stop it

    def rss_mb(self) -> float:
        """Memory that it and the processes it started hold, in MiB."""
        server = psutil.Process(self._process.pid)
        return sum(float(each.memory_info().rss) for each in (server, *server.children())) / 2**20

    def kill(self) -> None:
        """Ends it at once, as a machine that fails does."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def tandem(push_dir: Path, *options: str) -> Process:
    """`tandem serve` on a free port, with a version loaded."""
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--push-dir", str(push_dir), "--port", "0"]
    process = Process([*command, "--max-in-flight", "512", *options], "listening on ")
    try:
        wait_until_available(process.address, timeout_seconds=300)
    except BaseException:
        process.__exit__()
        raise
    return process


def fastapi(python: Path, encoder: Path, index_dir: Path) -> Process:
    """The FastAPI stack on a free port, in the baselines' environment."""
    command = [str(python), "-m", "benchmarks.baselines.search_app", str(encoder), str(index_dir)]
    return Process(command, "running on http://")


def run(command: Sequence[str]) -> None:
    """Runs a command of this repository to its end.

    Raises:
      TandemError: it failed.
    """
    done = subprocess.run(command, cwd=ROOT)
    if done.returncode:
        raise TandemError(
            f"{' '.join(command)} ended with exit status {done.returncode}; see what it says above."
        )
