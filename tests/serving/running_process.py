"""A retrieval server in a process of its own, for what threads cannot show: signals and their end."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class RunningProcess:
    """`serve` in a process of its own."""

    def __init__(self, push_dir: Path, options: str = "") -> None:
        """Starts it with further `ServerOptions`, as Python writes keyword arguments."""
        code = (
            "from serving.server import serve; from serving.server_options import ServerOptions;"
            f" serve(ServerOptions({str(push_dir)!r}, 0, {options}))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        assert self.process.stderr
        line = next(line for line in self.process.stderr if "listening on " in line)
        self.address = line.split("listening on ")[1].split()[0]

    def __enter__(self) -> "RunningProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
