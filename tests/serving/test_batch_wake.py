"""Those who wait for a batch are told together."""

import functools
from types import SimpleNamespace
from typing import Any

import numpy as np

from serving.batching import _Waiting, _wake


def test_a_batch_interrupts_an_event_loop_once_and_tells_everyone() -> None:
    class Loop:
        calls = 0

        def call_soon_threadsafe(self, function: Any, *given: Any) -> None:
            self.calls += 1
            function(*given)

    one, other = Loop(), Loop()
    woken: list[int] = []
    caller: Any = SimpleNamespace()
    bundle: Any = None
    loops: list[Any] = [one, None, one, other]
    batch = [
        _Waiting(
            bundle, "exact", {"query": np.array([b"mug"])}, caller, functools.partial(woken.append, n), loop
        )
        for n, loop in enumerate(loops)
    ]
    _wake(batch)
    assert sorted(woken) == [0, 1, 2, 3]
    assert one.calls == other.calls == 1
