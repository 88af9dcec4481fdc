"""The cache of answers keeps to its size and tells versions and catalogues apart."""

from serving.answer_cache import AnswerCache
from tests.serving.conftest import request_of


def test_cache_lets_go_of_what_was_asked_longest_ago() -> None:
    def ask(item: str) -> bytes | None:
        key, found = cache.get(1, 0, request_of("items", item_ids=[item]))
        if found is None:
            cache.put(key, b"x" * 400)
        return found

    cache = AnswerCache(1_000)  # room for two of these
    assert [ask(item) for item in ("a", "b")] == [None, None]
    assert ask("a") == b"x" * 400
    assert ask("c") is None  # which drives out b
    assert ask("a") and ask("c")
    assert ask("b") is None
    assert cache.get(2, 0, request_of("items", item_ids=["a"]))[1] is None  # another version, another answer
    assert cache.get(1, 1, request_of("items", item_ids=["a"]))[1] is None  # and another catalogue
    key, _ = cache.get(1, 0, request_of("items", item_ids=["large"]))
    cache.put(key, b"x" * 2_000)
    assert cache.get(1, 0, request_of("items", item_ids=["large"]))[1] is None
    assert ask("b")  # and what was there is still there
