"""A push is whole or invisible, and every damage to it is named."""

import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import bundle as bundles
from serving.bundle import BundleError

FILES = {
    "saved_model.pb": b"graph",
    "variables/variables.data-00000-of-00001": bytes(range(256)) * 9000,
    "assets.extra/scann/dataset.npy": b"vectors",
    "assets.extra/training_state/state.json": b"{}",
}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    return make_sealed(tmp_path / "candidate")


def make_sealed(directory: Path) -> Path:
    for name, content in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    bundles.seal(directory, item_count=3, dimension=2, k=3, spans=(1, 2), trained_until=86400)
    return directory


def test_published_bundle_is_whole_and_says_where_it_comes_from(sealed: Path, tmp_path: Path) -> None:
    push = tmp_path / "push"
    path = bundles.publish(sealed, push, 7, metrics={"view:all": {"recall_at_10": 0.25}}, parent=5)
    assert path == push / "7"
    manifest = bundles.verify_bundle(path)
    assert (manifest.version, manifest.parent_version, manifest.spans) == (7, 5, (1, 2))
    assert manifest.metrics == {"view:all": {"recall_at_10": 0.25}}
    assert set(manifest.files) == set(FILES)
    assert manifest.library_versions["scann"]
    for name, content in FILES.items():
        assert (path / name).read_bytes() == content
    assert bundles.read_manifest(sealed).version == 0  # the candidate stays as it was


def test_versions_are_numbers_with_a_manifest_in_order(sealed: Path, tmp_path: Path) -> None:
    push = tmp_path / "push"
    assert bundles.versions(push) == []
    for version in (10, 9, 100):
        bundles.publish(sealed, push, version)
    (push / "11").mkdir()  # no manifest: not a version
    shutil.copytree(push / "9", push / "09")
    (push / "notes").write_text("x")
    assert bundles.versions(push) == [9, 10, 100]


def test_version_grows_even_when_the_clock_goes_back(sealed, tmp_path, monkeypatch) -> None:
    push = tmp_path / "push"
    monkeypatch.setattr("time.time", lambda: 2000.9)
    assert bundles.next_version(push) == 2000
    assert bundles.publish(sealed, push).name == "2000"
    assert bundles.publish(sealed, push).name == "2001"  # within the same second
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert bundles.next_version(push) == 2002


@given(
    name=st.sampled_from(sorted(FILES)),
    place=st.floats(min_value=0, max_value=1, exclude_max=True),
    mask=st.integers(1, 255),
)
@settings(max_examples=25, deadline=None)
def test_one_changed_byte_anywhere_is_found_and_its_file_named(name: str, place: float, mask: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        sealed = make_sealed(Path(directory) / "candidate")
        data = bytearray((sealed / name).read_bytes())
        data[int(place * len(data))] ^= mask
        (sealed / name).write_bytes(data)
        with pytest.raises(BundleError, match=name):
            bundles.verify_bundle(sealed)
        with pytest.raises(BundleError, match=name):
            bundles.publish(sealed, Path(directory) / "push", 1)
        assert bundles.versions(Path(directory) / "push") == []


@pytest.mark.parametrize("name", sorted(FILES))
def test_truncated_file_is_named(sealed: Path, tmp_path: Path, name: str) -> None:
    path = bundles.publish(sealed, tmp_path / "push", 1)
    with open(path / name, "r+b") as file:
        file.truncate(len(FILES[name]) - 1)
    with pytest.raises(BundleError, match=f"{name} is damaged"):
        bundles.verify_bundle(path)


@pytest.mark.parametrize("name", sorted(FILES))
def test_missing_and_added_files_are_named(sealed: Path, tmp_path: Path, name: str) -> None:
    path = bundles.publish(sealed, tmp_path / "push", 1)
    content = (path / name).read_bytes()
    (path / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        bundles.verify_bundle(path)
    (path / name).write_bytes(content)
    (path / f"{name}.old").write_bytes(b"")
    with pytest.raises(BundleError, match=f"{name}.old is not in the manifest"):
        bundles.verify_bundle(path)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"version": 1}'])
def test_damaged_manifest_is_named(sealed: Path, content: bytes) -> None:
    (sealed / bundles.MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match="manifest.json is damaged"):
        bundles.verify_bundle(sealed)
    (sealed / bundles.MANIFEST).unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        bundles.verify_bundle(sealed)


def test_version_under_another_number_is_refused(sealed: Path, tmp_path: Path) -> None:
    path = bundles.publish(sealed, tmp_path / "push", 1)
    shutil.copytree(path, tmp_path / "push" / "2")
    with pytest.raises(BundleError, match="holds version 1, expected version 2"):
        bundles.verify_bundle(tmp_path / "push" / "2")


def test_version_is_never_overwritten(sealed: Path, tmp_path: Path) -> None:
    bundles.publish(sealed, tmp_path / "push", 1)
    with pytest.raises(BundleError, match="exists already"):
        bundles.publish(sealed, tmp_path / "push", 1)
    with pytest.raises(BundleError, match="above 0"):
        bundles.publish(sealed, tmp_path / "push", 0)


def _publish_and_die(sealed: Path, push: Path) -> None:
    os.rename = lambda *_: os._exit(9)  # type: ignore[assignment]  # the power goes just before the rename
    bundles.publish(sealed, push, 2)


def test_crash_before_the_rename_leaves_no_version_and_no_rubbish_after_the_next_push(
    sealed: Path, tmp_path: Path
) -> None:
    push = tmp_path / "push"
    bundles.publish(sealed, push, 1)
    process = multiprocessing.get_context("fork").Process(target=_publish_and_die, args=(sealed, push))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert any(name.startswith(".unfinished-2-") for name in os.listdir(push))
    assert bundles.versions(push) == [1]
    assert bundles.publish(sealed, push, 2) == push / "2"
    assert sorted(os.listdir(push)) == [".publish.lock", "1", "2"]


def test_push_directory_that_cannot_be_written_is_one_clear_line(sealed, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="is not a directory"):
        bundles.publish(sealed, tmp_path / "file", 1)
    with pytest.raises(BundleError, match="is not a directory"):
        bundles.versions(tmp_path / "file")
    with tempfile.TemporaryDirectory() as readable:  # pytest's own only root may enter
        os.chmod(readable, 0o755)
        candidate = make_sealed(Path(readable) / "candidate")
        push = Path(readable) / "push"
        push.mkdir(mode=0o555)
        with as_nobody(), pytest.raises(BundleError, match="Permission denied; .* writable push directory"):
            bundles.publish(candidate, push, 1)
        assert os.listdir(push) == []


def test_full_disk_leaves_nothing_behind(sealed, tmp_path, monkeypatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BundleError, match="No space left on device"):
        bundles.publish(sealed, tmp_path / "push", 1)
    assert os.listdir(tmp_path / "push") == [".publish.lock"]


class as_nobody:
    """Gives up root's right to write everywhere, where the tests run as root."""

    def __enter__(self) -> None:
        self._root = os.geteuid() == 0
        if self._root:
            os.seteuid(65534)

    def __exit__(self, *_: object) -> None:
        if self._root:
            os.seteuid(0)
