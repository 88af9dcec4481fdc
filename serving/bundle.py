"""The push directory: `<push_dir>/<version>/`, one immutable bundle a version, visible only when whole."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from serving.durable import sync_directory
from serving.manifest import (
    EXTRA,
    MANIFEST,
    BundleError,
    Manifest,
    hash_file,
    list_files,
    read_manifest,
    seal,
    write_manifest,
)

__all__ = [
    "EXTRA",
    "MANIFEST",
    "BundleError",
    "Manifest",
    "newest_version",
    "next_version",
    "publish",
    "read_manifest",
    "seal",
    "verify_bundle",
    "versions",
]

PathLike = str | os.PathLike[str]

_UNFINISHED = ".unfinished-"
_LOCK = ".publish.lock"


def verify_bundle(directory: PathLike, below: str = "") -> Manifest:
    """Compares every file of a bundle with its manifest.

    Args:
      directory: the bundle.
      below: a directory inside it, for who reads nothing else.

    Returns:
      The manifest.

    Raises:
      BundleError: a file is missing, differs, or is not in the manifest; or the bundle is another version's.
    """
    manifest = read_manifest(directory)
    root = Path(directory)
    if manifest.version and root.name.isdigit() and int(root.name) != manifest.version:
        raise BundleError(
            f"{root} holds version {manifest.version}, expected version {root.name}: versions are immutable,"
            " push the bundle instead of copying it."
        )
    there = {name for name in list_files(root) if name.startswith(below)} - {MANIFEST}
    for name in sorted(there - manifest.files.keys()):
        raise BundleError(
            f"{root / name} is not in the manifest; expected only files that were pushed: remove it."
        )
    for name, expected in manifest.files.items():
        if not name.startswith(below):
            continue
        if name not in there:
            raise BundleError(f"{root / name} is missing; expected every file of the manifest: push again.")
        _compare(root / name, hash_file(root / name), expected)
    return manifest


def versions(push_dir: PathLike) -> list[int]:
    """The complete versions in a push directory, oldest first; none where the directory does not exist.

    Raises:
      BundleError: the path is not a directory or cannot be read.
    """
    return [version for version in _numbered(push_dir) if Path(push_dir, str(version), MANIFEST).is_file()]


def newest_version(push_dir: PathLike) -> int:
    """The version that a run goes on from, 0 where nothing has been pushed yet.

    Raises:
      BundleError: the newest version has lost its manifest; the one before would be taken for the newest, and a
        lost first push for none.
    """
    whole = max(versions(push_dir), default=0)
    newest = max(_numbered(push_dir), default=0)
    if newest != whole:
        raise BundleError(
            f"{Path(push_dir, str(newest))} has no {MANIFEST}, expected a whole version: restore it from a copy, or"
            " take it out of the push directory to go on from the version before."
        )
    return whole


def next_version(push_dir: PathLike) -> int:
    """The version of the next push: seconds since 1970, or one above the newest where the clock went back.

    Raises:
      BundleError: the path is not a directory or cannot be read.
    """
    return max([int(time.time()), *(version + 1 for version in _numbered(push_dir))])


def publish(
    bundle_dir: PathLike,
    push_dir: PathLike,
    version: int | None = None,
    metrics: Mapping[str, Mapping[str, float | None]] | None = None,
    parent: int | None = None,
) -> Path:
    """Copies a sealed bundle into the push directory and makes it visible in one rename.

    The copy is made in a hidden directory beside the versions, checked against the manifest while it is
    read, and on the disk before the rename. A crash leaves only a hidden directory, which the next publish
    removes.

    Args:
      bundle_dir: the sealed bundle; stays as it is.
      push_dir: the directory of versions; made if need be.
      version: what it becomes, above 0; none: `next_version`.
      metrics: slice -> metric -> value, into the manifest.
      parent: the version it was warm-started from, into the manifest.

    Returns:
      `<push_dir>/<version>`.

    Raises:
      BundleError: the bundle is damaged, the version exists, or the push directory cannot be written.
    """
    if version is not None and version < 1:
        raise BundleError(f"version is {version}, expected a number above 0.")
    manifest = _check_names(bundle_dir)
    push = Path(push_dir)
    _numbered(push)  # says so where it is not a directory
    try:
        push.mkdir(parents=True, exist_ok=True)
        with _only_publisher(push):
            number = next_version(push) if version is None else version
            return _publish(Path(bundle_dir), manifest, push, number, metrics or {}, parent)
    except OSError as error:
        raise BundleError(
            f"{error.filename or push}: {error.strerror}; expected to copy {bundle_dir} into a writable push"
            f" directory {str(push)!r} with room for it: mend that and push again. Nothing was published."
        ) from error


def _check_names(directory: PathLike) -> Manifest:
    """Reads the manifest and checks that its files are there, without reading them."""
    manifest = read_manifest(directory)
    there = set(list_files(directory)) - {MANIFEST}
    for name in sorted(there ^ manifest.files.keys()):
        state = "is missing" if name in manifest.files else "is not in the manifest"
        raise BundleError(f"{Path(directory, name)} {state}; expected the files that were sealed.")
    return manifest


def _publish(
    source: Path,
    manifest: Manifest,
    push: Path,
    version: int,
    metrics: Mapping[str, Mapping[str, float | None]],
    parent: int | None,
) -> Path:
    target = push / str(version)
    if target.exists():
        raise BundleError(f"{target} exists already; expected a new version: versions are immutable.")
    for left_over in push.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left_over)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED}{version}-", dir=push))
    try:
        unfinished.chmod(0o755)
        for name, expected in manifest.files.items():
            copy = unfinished / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            with open(copy, "wb") as file:
                _compare(source / name, hash_file(source / name, copy_to=file), expected)
                file.flush()
                os.fsync(file.fileno())
        update = {
            "version": version,
            "parent_version": parent,
            "metrics": {k: dict(v) for k, v in metrics.items()},
        }
        write_manifest(unfinished, manifest.model_copy(update=update))
        for parent_dir, _, _ in os.walk(unfinished):
            sync_directory(parent_dir)
        os.rename(unfinished, target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_directory(push)
    return target


def _numbered(push_dir: PathLike) -> list[int]:
    """Children that are named like a version, whole or not."""
    try:
        names = os.listdir(push_dir)
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise BundleError(
            f"push directory {str(push_dir)!r} is not a directory: name one that is or is not there yet."
        ) from error
    except OSError as error:
        raise BundleError(
            f"push directory {str(push_dir)!r} cannot be read ({error.strerror}): mend its permissions."
        ) from error
    return sorted(
        int(name)
        for name in names
        if name.isascii() and name.isdigit() and str(int(name)) == name and name != "0"
    )


def _compare(path: Path, received: str, expected: str) -> None:
    if received != expected:
        raise BundleError(
            f"{path} is damaged: SHA-256 {received[:12]}.., expected {expected[:12]}.. of the manifest: push"
            " again."
        )


@contextlib.contextmanager
def _only_publisher(push: Path) -> Iterator[None]:
    """Holds the lock of a push directory: whatever is unfinished in it is left over from a crash."""
    with open(push / _LOCK, "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
