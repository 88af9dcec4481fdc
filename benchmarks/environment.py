"""The baselines' own environment: packages that Tandem does not need, pinned, made once with venv and pip."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from transform.errors import TandemError

ROOT = Path(__file__).parents[1]
LOCK = Path(__file__).parent / "baselines" / "requirements.lock"


def baseline_python(directory: Path, lock: Path = LOCK) -> Path:
    """Returns the interpreter of the environment in `directory`; makes it where it is not there or the lock has changed.

    Raises:
      TandemError: the package index cannot provide what the lock names.
    """
    python = directory / "bin" / "python"
    installed = directory / lock.name
    if python.exists() and installed.is_file() and installed.read_bytes() == lock.read_bytes():
        return python
    packages = [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    print(f"making {directory}: {len(packages)} packages of {lock.name}, minutes, 6 GB on disk", flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*pip, "--requirement", str(lock)], text=True, stderr=subprocess.PIPE)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
            "no reason given"
        ]
        raise TandemError(
            f"the baselines' environment cannot be made ({errors[-1]}); expected a package index with what"
            f" {lock} names: set one up for pip, or leave these baselines out with --only."
        )
    installed.write_bytes(lock.read_bytes())
    return python


def run_there(python: Path, module: str, arguments: Sequence[object]) -> None:
    """Runs a module of this repository with another interpreter; what it prints is shown.

    Raises:
      TandemError: it failed.
    """
    command = [str(python), "-W", "ignore", "-m", module, *map(str, arguments)]
    bars = {} if sys.stderr.isatty() else {"TQDM_DISABLE": "1"}  # progress bars are for people
    done = subprocess.run(command, cwd=ROOT, env=os.environ | bars)
    if done.returncode:
        raise TandemError(
            f"{' '.join(command)} ended with exit status {done.returncode}; see what it says above."
        )
