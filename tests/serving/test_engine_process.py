"""Model and indexes in a process of their own: the same answers as in this one, whatever becomes of the process."""

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf

from serving import engine, engine_process, engine_worker
from serving.background import AT_ONCE, GIVING_WAY
from serving.engine import EMBED_QUERY, LocalEngine, load_here
from serving.engine_process import EngineProcess
from serving.inputs import no_value
from serving.manifest import BundleError
from tests.serving.conftest import Shop


@pytest.fixture(scope="module")
def here(shop: Shop) -> LocalEngine:
    return load_here(Path(shop.bundle_dir), AT_ONCE)


@pytest.fixture(scope="module")
def there(shop: Shop) -> Iterator[EngineProcess]:
    yield EngineProcess(Path(shop.bundle_dir), GIVING_WAY, bfloat16=False)


def child() -> psutil.Process:
    """The one that was started last."""
    found = [p for p in psutil.Process().children() if "serving.engine_worker" in p.cmdline()]
    return max(found, key=lambda process: process.create_time())


def asked(made: LocalEngine, signature: str, *queries: str) -> dict[str, Any]:
    inputs = {}
    for name, spec in made.specs[signature].items():
        shape = (len(queries), 2)[: spec.shape.rank]
        inputs[name] = np.full(shape, no_value(spec.dtype), spec.dtype.as_numpy_dtype)
    if "query" in inputs:
        inputs["query"][:] = [query.encode() for query in queries]
    return inputs


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value.dtype == object:
            assert found[name].tolist() == value.tolist()
        else:
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_it_is_what_is_loaded_here(here: LocalEngine, there: EngineProcess) -> None:
    assert there.manifest == here.manifest
    assert there.specs == here.specs
    assert there.signature_defs == here.signature_defs
    for ours, theirs in ((here.index, there.index), (here.related_index, there.related_index)):
        assert (theirs.size, theirs.dimension, theirs.k, theirs.tuning) == (
            ours.size,
            ours.dimension,
            ours.k,
            ours.tuning,
        )
        assert theirs.compared(7) == ours.compared(7)
    assert there.variable("item_ids").tolist() == here.variable("item_ids").tolist()


@pytest.mark.parametrize("signature", ["serving_default", EMBED_QUERY, "embed_item"])
def test_signatures_answer_as_here(here: LocalEngine, there: EngineProcess, signature: str) -> None:
    inputs = asked(here, signature, "red mug", "", "größer")
    assert_same(there.run(signature, inputs), here.run(signature, inputs))


def test_queries_are_embedded_and_searched_as_here(here: LocalEngine, there: EngineProcess) -> None:
    inputs = asked(here, EMBED_QUERY, "red mug", "blue lamp")
    for k in (1, 5, 60):
        expected, found = here.retrieve(inputs, k), there.retrieve(inputs, k)
        assert_same(found.outputs, expected.outputs)
        np.testing.assert_array_equal(found.found.rows, expected.found.rows)
        np.testing.assert_allclose(found.found.scores, expected.found.scores, rtol=1e-5)


@pytest.mark.parametrize("name", ["index", "related_index"])
def test_indexes_are_searched_as_here(here: LocalEngine, there: EngineProcess, shop: Shop, name: str) -> None:
    for k in (None, 3, 40):
        expected = getattr(here, name).search(shop.catalogue.vectors[:5], k)
        found = getattr(there, name).search(shop.catalogue.vectors[:5], k)
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_array_equal(found.scores, expected.scores)


def test_errors_are_those_of_here(here: LocalEngine, there: EngineProcess) -> None:
    examples = {"examples": np.array([b"no example"], object)}
    with pytest.raises(tf.errors.InvalidArgumentError) as expected:
        here.run("evaluate", examples)
    with pytest.raises(tf.errors.InvalidArgumentError) as found:
        there.run("evaluate", examples)
    assert found.value.message.splitlines()[0] == expected.value.message.splitlines()[0]
    with pytest.raises(ValueError, match="a query vector is not finite"):
        there.index.search(np.full((1, there.index.dimension), np.nan, np.float32))
    with pytest.raises(BundleError, match="no variable 'nothing'"):
        there.variable("nothing")


def test_after_its_process_died_it_answers_as_before(here: LocalEngine, there: EngineProcess) -> None:
    inputs = asked(here, EMBED_QUERY, "red mug")
    before = there.retrieve(inputs, 5)
    died = child()
    died.kill()
    after = there.retrieve(inputs, 5)
    np.testing.assert_array_equal(after.found.rows, before.found.rows)
    assert child().pid != died.pid


def test_its_process_ends_with_it_without_a_search_for_cycles(shop: Shop) -> None:
    loaded = EngineProcess(Path(shop.bundle_dir), AT_ONCE, bfloat16=False)
    process = child()
    gc.disable()
    try:
        del loaded
        assert not process.is_running()
    finally:
        gc.enable()


def test_a_damaged_bundle_is_refused(shop: Shop, tmp_path: Path) -> None:
    shutil.copytree(shop.bundle_dir, tmp_path / "bundle")
    (tmp_path / "bundle" / "saved_model.pb").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"saved_model\.pb is damaged"):
        EngineProcess(tmp_path / "bundle", AT_ONCE, bfloat16=False)


def test_a_bundle_is_verified_before_tensorflow_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, serving.engine_worker as worker, serving.manifest as manifest\n"
        "try: worker._ready(pathlib.Path(sys.argv[1]), worker._here, False)\n"
        "except manifest.BundleError: sys.exit(3 if 'tensorflow' in sys.modules else 0)\n"
        "sys.exit(4)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == 0


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_precision_asked_for_is_what_the_model_is_loaded_with(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, bfloat16: bool
) -> None:
    words: list[str] = []
    loaded: list[Any] = []

    def started(module: str, given: list[str], is_aside: bool, channels: int) -> Any:
        words.extend(["0", "1" if is_aside else "0", *given])
        raise BundleError("not started")

    monkeypatch.setattr(engine_process, "ChildProcess", started)
    monkeypatch.setattr(engine_worker, "answer_requests", lambda descriptors, get_ready: get_ready())
    monkeypatch.setattr(engine_worker, "_import", lambda: None)  # this process has computed already
    monkeypatch.setattr(engine, "LocalEngine", lambda *given: loaded.append(given) or LocalEngine(*given[:2]))
    with pytest.raises(BundleError, match="not started"):
        EngineProcess(Path(shop.bundle_dir), GIVING_WAY, bfloat16)
    engine_worker.main(words)
    assert [(path, use) for path, _, use in loaded] == [(Path(shop.bundle_dir), bfloat16)]


def test_the_first_answer_stands_aside_where_others_are_answered(
    here: LocalEngine, there: EngineProcess, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    hurried = EngineProcess(Path(shop.bundle_dir), AT_ONCE, bfloat16=False)
    for each in (there, hurried):
        ask = each._process.ask
        monkeypatch.setattr(
            each._process,
            "ask",
            lambda *words, seconds, ask=ask: names.append(words[0]) or ask(*words, seconds=seconds),
        )
        each.run_first(EMBED_QUERY, asked(here, EMBED_QUERY, "red mug"))
    assert names == ["run_aside", "run"]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_threads_that_answer_do_not_stand_aside_after_loading_did(here: LocalEngine, shop: Shop) -> None:
    loaded = EngineProcess(Path(shop.bundle_dir), GIVING_WAY, bfloat16=False)
    process = child()

    def seconds() -> dict[bool, float]:
        spent = {True: 0.0, False: 0.0}
        for thread in process.threads():
            is_idle = os.sched_getscheduler(thread.id) == os.SCHED_IDLE
            spent[is_idle] += thread.user_time + thread.system_time
        return spent

    before = seconds()
    while seconds()[False] < before[False] + 1.0:
        loaded.retrieve(asked(here, EMBED_QUERY, *["red mug"] * 32), 5)
    assert seconds()[True] - before[True] < 0.05
