"""The log of catalogue changes: what is in it counts, what a crash tore never did, and damage is never passed over."""

import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.catalogue_changes import Change, State
from serving.catalogue_log import LOG, CatalogueLog, CatalogueLogError

FIRST = Change([{"item_id": "a", "title": "red\nmug \u2028\0 é"}], [])
SECOND = Change([{"item_id": "b", "title": "lamp", "price": 2.5}], ["a"])
THIRD = Change([], ["b", "c"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log of three changes, in a directory that was not there before."""
    log = CatalogueLog(tmp_path / "not" / "yet")
    assert log.open() == []
    assert all(log.append(change) for change in (FIRST, SECOND, THIRD))
    return tmp_path / "not" / "yet"


def test_what_was_written_is_read_again(folder: Path) -> None:
    assert CatalogueLog(folder).open() == [FIRST, SECOND, THIRD]


def test_log_cut_off_anywhere_gives_the_changes_before_and_goes_on(folder: Path, caplog) -> None:
    whole = (folder / LOG).read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole)):
        (folder / LOG).write_bytes(whole[:size])
        caplog.clear()
        log = CatalogueLog(folder)
        count = sum(end <= size for end in ends)
        assert log.open() == [FIRST, SECOND, THIRD][:count]
        assert ("a torn last line" in caplog.text) == (size not in (0, *ends))
        assert log.append(THIRD)
        assert CatalogueLog(folder).open() == [*[FIRST, SECOND, THIRD][:count], THIRD]


def test_blocks_that_never_reached_the_disk_are_a_torn_line(folder: Path) -> None:
    whole = (folder / LOG).read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for tail in (b"\0" * 40, whole[last:-10] + b"\0" * 10, b"\0" * 20 + whole[last + 20 :]):
        (folder / LOG).write_bytes(whole[:last] + tail)
        assert CatalogueLog(folder).open() == [FIRST, SECOND]
        assert (folder / LOG).read_bytes() == whole[:last]


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 6))
def test_any_flipped_bit_is_refused_and_nothing_is_written(tmp_path_factory, place, bit) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = CatalogueLog(folder)
    for change in (FIRST, SECOND, THIRD):
        log.append(change)
    damaged = bytearray((folder / LOG).read_bytes())
    at = int(place * (len(damaged) - 1))  # without its last line break, a log ends in a torn line
    damaged[at] ^= 1 << bit
    (folder / LOG).write_bytes(damaged)
    if 0 in damaged[damaged.rindex(b"\n", 0, -1) :]:
        return  # what a lost block looks like
    with pytest.raises(
        CatalogueLogError, match=r"is damaged: line [123] \(byte \d+\).*restore it from a copy"
    ):
        CatalogueLog(folder).open()
    assert (folder / LOG).read_bytes() == damaged


def test_missing_line_is_damage(folder: Path) -> None:
    lines = (folder / LOG).read_bytes().splitlines(keepends=True)
    (folder / LOG).write_bytes(lines[0] + lines[2])
    with pytest.raises(CatalogueLogError, match="line 2"):
        CatalogueLog(folder).open()


def test_full_disk_refuses_the_change_and_leaves_the_log_as_it_was(folder: Path) -> None:
    log = CatalogueLog(folder)
    log.open()
    before = (folder / LOG).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (len(before) + 10, limits[1])
    )  # ten bytes of the line still fit
    try:
        with pytest.raises(CatalogueLogError, match=r"\(File too large\).*make room.*Nothing was changed"):
            log.append(FIRST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (folder / LOG).read_bytes() == before
    assert log.append(FIRST)
    assert CatalogueLog(folder).open() == [FIRST, SECOND, THIRD, FIRST]


def test_directory_that_cannot_be_written_refuses_the_change_and_reads_on(
    folder: Path, tmp_path: Path
) -> None:
    nowhere = CatalogueLog("/proc/tandem-catalog")  # where nobody can write
    assert nowhere.open() == []
    with pytest.raises(CatalogueLogError, match="cannot be written.*--catalog-dir.*Nothing was changed"):
        nowhere.append(FIRST)
    (folder / "changes.lock").unlink()
    (folder / "changes.lock").mkdir()
    log = CatalogueLog(folder)
    assert log.open() == [FIRST, SECOND, THIRD]
    with pytest.raises(CatalogueLogError, match="cannot be written"):
        log.append(FIRST)
    with open(folder / LOG, "ab") as file:
        file.write(b"torn")
    assert CatalogueLog(folder).open() == [FIRST, SECOND, THIRD]
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(CatalogueLogError, match="cannot be read"):
        CatalogueLog(tmp_path / "file" / "catalog").open()


def test_two_servers_share_a_log(folder: Path) -> None:
    one, other = CatalogueLog(folder), CatalogueLog(folder)
    one.open(), other.open()
    assert one.append(FIRST)
    assert other.has_news() and not other.append(SECOND)  # there is something to be read first
    assert other.read() == ([FIRST], False)
    assert not other.has_news() and other.append(SECOND)
    assert one.read() == ([SECOND], False)
    assert CatalogueLog(folder).open() == [FIRST, SECOND, THIRD, FIRST, SECOND]


def test_log_that_goes_away_is_not_taken_for_an_empty_one(folder: Path) -> None:
    log = CatalogueLog(folder)
    log.open()
    (folder / LOG).rename(folder / "elsewhere")
    with pytest.raises(CatalogueLogError, match="has gone"):
        log.read()
    with pytest.raises(CatalogueLogError, match="has gone"):
        log.append(FIRST)
    assert not (folder / LOG).exists()


def test_log_much_larger_than_what_it_comes_to_is_trimmed(tmp_path: Path) -> None:
    log, follower = CatalogueLog(tmp_path), CatalogueLog(tmp_path)
    for price in range(40):
        log.append(
            Change([{"item_id": str(n), "title": "t" * 300, "price": price} for n in range(100)], ["gone"])
        )
        follower.read()
    state = State(0, {}).after(CatalogueLog(tmp_path).open())
    before = log.size()
    log = CatalogueLog(tmp_path)
    log.open()
    assert log.trim(state.shortest())
    assert log.size() < before / 20
    assert not log.trim(state.shortest())
    again = State(0, {}).after(CatalogueLog(tmp_path).open())
    assert {k: e.item for k, e in again.entries.items()} == {k: e.item for k, e in state.entries.items()}
    read = follower.read()  # another server sees all of it anew, and that nothing is different
    assert read.whole
    assert not state.anew(read.changes).since(state.number)
    assert log.append(THIRD) and follower.read() == ([THIRD], False)


def test_small_log_is_left_alone(folder: Path) -> None:
    log = CatalogueLog(folder)
    log.open()
    assert not log.trim([Change([], ["a", "b", "c"])])


IDS = st.sampled_from("abcdef")
UPSERTS = st.dictionaries(IDS, st.sampled_from(["red", "blue"])).map(
    lambda titles: [{"item_id": item_id, "title": title} for item_id, title in titles.items()]
)
CHANGES = st.lists(
    UPSERTS.map(lambda items: Change(items, []))
    | st.lists(IDS, unique=True).map(lambda ids: Change([], ids)),
    max_size=8,
)


@settings(max_examples=30, deadline=None)
@given(CHANGES, st.dictionaries(IDS, st.integers(1, 60)))
def test_fewest_changes_come_to_the_same_state(changes, held) -> None:
    timed = [change._replace(time=10.0 * n) for n, change in enumerate(changes)]
    state = State(0, {}).after([*timed, Change([], [], held={i: float(made) for i, made in held.items()})])
    again = State(0, {}).after(state.shortest())
    assert {i: (e.item, e.held) for i, e in again.entries.items()} == {
        i: (e.item, e.held) for i, e in state.entries.items()
    }
    for item_id, entry in state.entries.items():
        assert not entry.held or entry.time < entry.held == held[item_id]
        assert entry.held or entry.item is None or again.entries[item_id].time >= entry.time
    assert not state.anew(state.shortest()).since(state.number)
