"""The `tandem` command as a process that can be watched, limited and killed."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Tandem:
    """One `tandem` process.

    Args:
      words: after `tandem`.
      module: what runs it.
      file_size: the largest file it may write, in bytes; a write past it fails as on a full disk.
    """

    def __init__(self, *words, module="pipeline.cli", file_size=None):
        def limit():
            if file_size:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

        self.said = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, words)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=limit,
        )

    def wait_for(self, text):
        """Reads on until a line holds `text`."""
        for line in self._process.stdout:
            self.said.append(line)
            if text in line:
                return
        raise AssertionError(f"ended without {text!r}:\n{''.join(self.said)}")

    def kill(self):
        """kill -9, to it and all it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def end(self):
        """Waits for the end: (exit status, all that was said on one line)."""
        self.said.append(self._process.communicate()[0])
        return self._process.returncode, " ".join("".join(self.said).split())


@pytest.fixture
def tandem():
    """Starts `tandem` processes, and leaves none behind."""
    started = []

    def start(*words, **limits):
        started.append(Tandem(*words, **limits))
        return started[-1]

    yield start
    for one in started:
        if one._process.poll() is None:
            one.kill()
