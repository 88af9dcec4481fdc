"""The lineage: a line a verdict that no crash can take back, and a table of it."""

import io
import multiprocessing
from pathlib import Path

import pytest
from rich.console import Console

from pipeline import push_log
from pipeline.history import history, history_table
from pipeline.rollback import rollback
from serving.bundle import publish, seal


def entry(version, parent=None, spans=(1, 2), refused=(), **more):
    metrics = {view: {"recall_at_10": 0.1 + n / 10} for n, view in enumerate(("all", "unseen", "anchor"))}
    time = f"2024-01-{version or 9:02}T06:00:00+00:00"
    fields = {"examples": 1200, "seconds": 61.4, "metrics": metrics, **more}
    return push_log.Entry(time=time, version=version, parent=parent, spans=spans, refused=refused, **fields)


def push(tmp_path, version, parent=None, spans=(1, 2)):
    bundle = tmp_path / f"bundle-{version}"
    bundle.mkdir()
    (bundle / "saved_model.pb").write_text(f"weights of {version}")
    seal(bundle, item_count=1, dimension=1, k=1, spans=spans, trained_until=float(version))
    publish(bundle, tmp_path / "push", version, metrics={"view:all": {"recall_at_10": 0.3}}, parent=parent)


@pytest.fixture
def push_dir(tmp_path):
    """Version 5 pushed; a candidate of span 3 refused; version 6 pushed a day later, both warm-started from 5."""
    directory = tmp_path / "push"
    push(tmp_path, 5)
    push_log.append(str(directory), entry(5))
    push_log.append(str(directory), entry(None, 5, (1, 2, 3), ("recall_at_10 on view:anchor fell",)))
    push(tmp_path, 6, 5, (1, 2, 3, 4))
    push_log.append(
        str(directory), entry(6, 5, (1, 2, 3, 4)).model_copy(update={"time": "2024-02-01T06:00:00+00:00"})
    )
    return str(directory)


def shown(lineage):
    file = io.StringIO()
    Console(file=file, width=120).print(history_table(lineage))
    return file.getvalue()


def test_refused_candidates_stand_in_the_lineage_with_their_reason(push_dir):
    lineage = history(push_dir)
    assert [(one.version, one.parent, one.verdict) for one in lineage.candidates] == [
        (5, None, "pushed"),
        (None, 5, "refused"),
        (6, 5, "served"),
    ]
    table = shown(lineage)
    assert "refused 2024-01-09T06:00:00+00:00, spans 1-3: recall_at_10 on view:anchor fell" in table
    served = next(line for line in table.splitlines() if "served" in line)
    assert [word for word in served.split() if word not in "│┃"] == [
        "6", "5", "1-4", "1,200", "61", "0.1000", "0.2000", "0.3000", "served",
    ]  # fmt: skip


def test_versions_without_a_line_are_shown_from_their_manifest(push_dir):
    version, number = rollback(push_dir)
    last = history(push_dir).candidates[-1]
    assert (last.version, last.parent, last.verdict) == (number, version, "served")
    assert (last.examples, last.seconds, last.metrics["all"]) == (None, None, {"recall_at_10": 0.3})


def test_version_that_was_taken_out_keeps_its_line(push_dir):
    Path(push_dir, "6").rename(Path(push_dir).parent / "rejected")
    verdicts = {one.version: one.verdict for one in history(push_dir).candidates}
    assert verdicts == {5: "served", None: "refused", 6: "taken out"}


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_torn_last_line_is_left_out_with_a_note_and_costs_no_other_line(push_dir, kept):
    log = Path(push_dir, push_log.LOG)
    whole = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(whole[:2]) + whole[2][:kept])
    lineage = history(push_dir)
    assert lineage.broken == [3]
    assert "line 3 is torn" in shown(lineage)
    assert [one.verdict for one in lineage.candidates if one.examples] == ["pushed", "refused"]
    push_log.append(push_dir, entry(7, 6))
    read = push_log.read(push_dir)
    assert [one.version for one in read.entries] == [5, None, 7] and read.broken == [3]


def test_wherever_a_crash_cuts_the_file_every_line_before_is_read(push_dir):
    log = Path(push_dir, push_log.LOG)
    whole = log.read_bytes()
    versions = [one.version for one in push_log.read(push_dir).entries]
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole)):
        log.write_bytes(whole[:cut])
        whole_lines = sum(cut >= end for end in ends)
        assert [one.version for one in push_log.read(push_dir).entries] == versions[:whole_lines]


def test_line_that_only_lacks_its_end_is_whole(push_dir):
    log = Path(push_dir, push_log.LOG)
    log.write_bytes(log.read_bytes()[:-1])
    push_log.append(push_dir, entry(7, 6))
    read = push_log.read(push_dir)
    assert [one.version for one in read.entries] == [5, None, 6, 7] and read.broken == []


def _append_many(directory, first):
    for number in range(first, first + 50):
        push_log.append(directory, entry(None, number, refused=("x" * 3000,)))


def test_writers_at_the_same_time_never_mix_their_lines(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(str(tmp_path), first)) for first in (100, 200, 300)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    read = push_log.read(str(tmp_path))
    assert read.broken == []
    assert sorted(one.parent for one in read.entries) == [n + k for n in (100, 200, 300) for k in range(50)]


def test_push_directory_without_a_log_or_anything_else(tmp_path):
    assert history(str(tmp_path / "nowhere")) == ([], [])
