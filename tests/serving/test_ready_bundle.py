"""A version gets ready beside one that answers: what is read gives way, what holds the lock does not."""

import gc
import os
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving import loaded_bundle
from serving.background import GIVING_WAY, Pace
from serving.engine import LocalEngine, load_here
from serving.inputs import no_value
from serving.loaded_bundle import LoadedBundle, load_bundle
from serving.model_session import ModelSession
from serving.ready_bundle import load_and_warm_up
from serving.request_inputs import Limits
from serving.warmup import read_warmup_requests
from tests.serving.conftest import Shop


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_reading_gives_way_and_what_holds_the_lock_does_not(
    monkeypatch: pytest.MonkeyPatch, shop: Shop
) -> None:
    calls: list[tuple[str, int]] = []

    def recorded(kind: type, method: str, name: str) -> None:
        original = getattr(kind, method)

        def call(self: Any, *given: Any) -> Any:
            calls.append((name, niceness()))
            return original(self, *given)

        monkeypatch.setattr(kind, method, call)

    recorded(LocalEngine, "run_first", "model")
    recorded(LocalEngine, "retrieve", "answer")
    reads = ("read_vectors", "_read_items", "read_attributes")
    for name in reads:
        read = getattr(loaded_bundle, name)
        monkeypatch.setattr(
            loaded_bundle, name, lambda path, n=name, r=read: calls.append((n, niceness())) or r(path)
        )
    before = niceness()
    paces: list[Pace] = []

    def load_engine(directory: Path, pace: Pace) -> LocalEngine:
        paces.append(pace)
        return load_here(directory, pace)

    load_and_warm_up(Path(shop.bundle_dir), Limits(), GIVING_WAY, load_engine)
    nice = min(before + GIVING_WAY.nice, 19)
    requests = len(list(read_warmup_requests(shop.bundle_dir)))
    warm_up = [("model", before), ("answer", before)] * requests
    embedded = ("model", before)  # an item
    assert requests and calls == [(name, nice) for name in reads] + warm_up + [embedded]
    assert paces == [GIVING_WAY]


def test_a_version_that_nobody_asks_any_more_goes_without_a_search_for_cycles(shop: Shop) -> None:
    bundle = load_and_warm_up(Path(shop.bundle_dir), Limits())
    bundle.run("items", {"item_ids": np.array([b"x"], object)})
    gone: weakref.ref[LoadedBundle] = weakref.ref(bundle)
    gc.disable()
    try:
        del bundle
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("signature", ["serving_default", "exact", "embed_query", "items"])
def test_what_is_computed_first_is_what_an_answer_needs(
    monkeypatch: pytest.MonkeyPatch, shop: Shop, signature: str
) -> None:
    ran: list[str] = []
    run = ModelSession.run
    monkeypatch.setattr(
        ModelSession, "run", lambda self, name, inputs: ran.append(name) or run(self, name, inputs)
    )
    bundle = load_bundle(shop.bundle_dir)
    inputs: dict[str, Any] = {}
    for name, spec in bundle.specs[signature].items():
        value = no_value(spec.dtype)
        inputs[name] = np.full([1] * (spec.shape.rank or 1), value, spec.dtype.as_numpy_dtype)
    bundle.compute_first(signature, inputs)
    first = ran.copy()
    bundle.run(signature, inputs)
    assert first * 2 == ran and len(first) == (signature != "items")
