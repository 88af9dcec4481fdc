"""Random and broken requests never break the server, and never get a wrong reply."""

from pathlib import Path

from benchmarks.serving_fuzz import Fuzzer
from serving import server as servers
from serving.client import wait_until_available


def test_hundreds_of_random_requests_get_an_answer_or_a_fitting_refusal(push_dir: Path) -> None:
    server = servers.start(push_dir, 0, poll_seconds=0.05, rest_port=0)
    wait_until_available(f"127.0.0.1:{server.port}")
    fuzzer = Fuzzer(f"127.0.0.1:{server.port}", server.rest_port, seed=3)
    fuzzer.run(400)  # which asks good requests in between, and at the end
    counts = fuzzer.counts
    assert sum(counts.values()) == 400
    # The requests are of every kind: without each of these, this test would show little.
    for status in ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "HTTP 200", "HTTP 400"):
        assert counts[status] > 0, counts
    server.stop()
