"""Runs the README's commands as a newcomer would, on a generated shop, and checks what they print.

Every ```bash block is run, all in one shell, in an empty directory that holds only `shop/`: CSV files of the
generated shop. A ```text block right after it is what it prints: each line must come, in order; `…` is
anything. A block under `<!-- not in CI: reason -->` is passed over, and the reason is shown.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 900  # seconds for all of it
_BLOCK = re.compile(
    r"(?:<!-- not in CI: (?P<skip>[^\n]*?) -->\n)?"
    r"^```bash\n(?P<script>.*?)^```$(?:\s*^```text\n(?P<printed>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of commands, what it should print, and why it is not run (empty: it is)."""

    script: str
    printed: list[str]
    skip: str


def blocks(text: str) -> list[Block]:
    """The README's ```bash blocks, in order."""
    return [
        Block(
            found["script"],
            [line for line in (found["printed"] or "").splitlines() if line.strip()],
            found["skip"] or "",
        )
        for found in _BLOCK.finditer(text)
    ]


def missing_line(expected: list[str], printed: str) -> str | None:
    """The first expected line that does not come after the ones before it; None when all do."""
    rest = printed
    for line in expected:
        pattern = ".*".join(re.escape(part) for part in line.strip().split("…"))
        found = re.search(pattern, rest)
        if found is None:
            return line
        rest = rest[found.end() :]
    return None


def write_shop(directory: Path) -> None:
    """A generated shop in the form that the README's reader has: items.csv, users.csv, events.csv."""
    sys.path.insert(0, str(ROOT))
    from tests.mini_shop import write_mini_shop

    with tempfile.TemporaryDirectory() as temporary:
        made = write_mini_shop(Path(temporary) / "made", items=120, users=80, spans=3)
        directory.mkdir()
        for name in ("items", "users"):
            pd.read_parquet(made / f"{name}.parquet").to_csv(directory / f"{name}.csv", index=False)
        spans = sorted(made.glob("events/span-*/*.parquet"))
        pd.concat([pd.read_parquet(path) for path in spans]).to_csv(directory / "events.csv", index=False)


def script_of(all_blocks: list[Block]) -> str:
    """One shell script: marks where each block starts, and waits for a server that a block leaves running."""
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for number, block in enumerate(all_blocks):
        if block.skip:
            continue
        lines += [f"echo; echo '==== block {number}'", block.script]
        for port in re.findall(r"^tandem serve .*--port (\d+).*&$", block.script, re.MULTILINE):
            wait = f"wait_until_available('127.0.0.1:{port}', timeout_seconds=120)"
            lines.append(f'python -c "from serving.client import wait_until_available; {wait}"')
    return "\n".join(lines) + "\n"


def main() -> int:
    """Runs the blocks; 0 when every command went well and printed what the README says."""
    all_blocks = blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    for block in all_blocks:
        if block.skip:
            print(f"README: not run ({block.skip}): {block.script.splitlines()[0]}")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    started = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="tandem-readme-"))
    write_shop(directory / "shop")
    output = directory / "output.txt"
    with output.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            ["bash", "-c", script_of(all_blocks)],
            cwd=directory,
            env={**os.environ, "PATH": path, "COLUMNS": "120"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=LIMIT,
        )
    printed = output.read_text(encoding="utf-8", errors="replace")
    parts = {
        int(n): text
        for n, text in re.findall(r"^==== block (\d+)\n(.*?)(?=^==== block |\Z)", printed, re.M | re.S)
    }
    if done.returncode:
        print(printed)
        print(f"README: the commands of block {max(parts)} ended with exit status {done.returncode};")
        print(f"what they left behind is in {directory}")
        return 1
    for number, text in parts.items():
        line = missing_line(all_blocks[number].printed, text)
        if line is not None:
            print(f"{text}\nREADME: block {number} did not print, where the README says so: {line}")
            return 1
    shutil.rmtree(directory)
    print(f"README: {len(parts)} blocks of commands ran as written in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
