"""How long a catalogue change takes from the call until the item is in an answer, and what items beside the index cost."""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.serving import Server
from serving.catalogue_client import CatalogueClient
from serving.changed_items import ChangedItems, SideItem, exact_search
from serving.client import RetrievalClient

CHANGES = 30
SIDE_ITEMS = (0, 1_000, 10_000, 100_000)
OWN_ITEMS, DIMENSION, K = 100_000, 128, 100


def change_seconds(push_dir: str, items: int, changes: int) -> dict[str, float]:
    """Upserts copies of items that their own titles find, and waits until a search for the title answers the copy."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(push_dir, "--catalog-dir", folder)
        try:
            return _change_seconds(server.address, items, changes)
        finally:
            server.stop()


def _change_seconds(address: str, items: int, changes: int) -> dict[str, float]:
    called, shown = [], []
    with RetrievalClient(address, timeout_seconds=60) as asker, CatalogueClient(address) as changer:
        titles = [info.title for info in asker.items(asker.search("milk", k=100).item_ids)]
        for number in range(changes):
            title = titles[number % len(titles)]
            batch = [
                {"item_id": f"copy-{items}-{number}-{n}", "title": title if not n else f"{title} {n}"}
                for n in range(items)
            ]
            started = time.perf_counter()
            changer.apply(upsert=batch)
            called.append(time.perf_counter() - started)
            while batch[0]["item_id"] not in asker.search(title, k=100).item_ids:
                if time.perf_counter() - started > 10:
                    raise SystemExit(f"{title!r} does not find its own copy: nothing can be said")
            shown.append(time.perf_counter() - started)
            changer.apply(delete=[item["item_id"] for item in batch])
    return {
        "call_median": float(np.median(called)),
        "shown_median": float(np.median(shown)),
        "shown_most": max(shown),
    }


def side_milliseconds(count: int) -> dict[str, float]:
    """A search of one query over random vectors with so many items beside them and as many hidden, at most half."""
    random = np.random.default_rng(0)
    own = random.normal(size=(OWN_ITEMS, DIMENSION)).astype(np.float32)
    beside = random.normal(size=(count, DIMENSION)).astype(np.float32)
    started = time.perf_counter()
    items = [SideItem(str(n).encode(), b"", b"", vector) for n, vector in enumerate(beside)]
    hidden = random.permutation(OWN_ITEMS)[: min(count, OWN_ITEMS // 2)].tolist()
    changes = ChangedItems(*own.shape).replace(1, items, hidden, [], set())
    replaced = time.perf_counter() - started
    search, times = exact_search(own), {True: [], False: []}
    for query in random.normal(size=(60, 1, DIMENSION)).astype(np.float32):
        for changed in (True, False):
            started = time.perf_counter()
            changes.search(search, query, K) if changed else search(query, K)
            times[changed].append(time.perf_counter() - started)
    return {
        "search_ms": float(np.median(times[True])) * 1000,
        "unchanged_ms": float(np.median(times[False])) * 1000,
        "replace_ms": replaced * 1000,
    }


def main() -> None:
    """Measures, writes `benchmarks/results/catalogue.json` and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("push_dir", help="push directory, such as make demo leaves")
    parser.add_argument("--changes", type=int, default=CHANGES)
    options = parser.parse_args()
    result = {
        "seconds": {
            str(items): change_seconds(options.push_dir, items, options.changes) for items in (1, 256)
        },
        "beside": {str(count): side_milliseconds(count) for count in SIDE_ITEMS},
    }
    text = json.dumps(result, indent=2)
    Path(__file__).parent.joinpath("results", "catalogue.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
