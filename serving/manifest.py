"""What a bundle says about itself: `assets.extra/manifest.json`."""

import datetime
import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transform.errors import TandemError

EXTRA = "assets.extra"
MANIFEST = f"{EXTRA}/manifest.json"

_LIBRARIES = (
    "tensorflow",
    "tensorflow-text",
    "tensorflow-transform",
    "tensorflow-recommenders",
    "keras",
    "keras-hub",
    "scann",
    "numpy",
    "tfx",
)
_BLOCK = 1 << 20


class BundleError(TandemError):
    """A bundle that is damaged, incomplete or mixed, or cannot be published; names the file."""


class Manifest(BaseModel):
    """Where a bundle comes from and what must be in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(default=0, ge=0, description="Version it is pushed as; 0 until it is pushed.")
    parent_version: int | None = Field(default=None, description="Version it was warm-started from.")
    spans: tuple[int, ...] = Field(description="Spans whose events it was trained and evaluated on.")
    trained_until: float | None = Field(description="Targets before this time were trained on, seconds UTC.")
    item_count: int = Field(ge=1, description="Items in the index.")
    dimension: int = Field(ge=1, description="Length of query and item vectors.")
    k: int = Field(ge=1, description="Items a query is answered with.")
    files: dict[str, str] = Field(
        description="Path inside the bundle -> SHA-256, of every file but this one."
    )
    metrics: dict[str, dict[str, float | None]] = Field(
        default={}, description="Slice -> metric -> value, full corpus, from the evaluation before the push."
    )
    library_versions: dict[str, str] = Field(description="Python and the libraries it was made with.")
    training_state: str | None = Field(
        default=None, description="Directory inside the bundle that the next warm start reads; none: cannot."
    )
    created: str = Field(description="When the bundle was made, ISO 8601, UTC.")


def seal(
    directory: str | os.PathLike[str],
    *,
    item_count: int,
    dimension: int,
    k: int,
    spans: tuple[int, ...] = (),
    trained_until: float | None = None,
    training_state: str | None = None,
) -> Manifest:
    """Hashes every file of a finished bundle and writes its manifest, with version 0.

    Args:
      directory: the bundle; nothing in it may change afterwards.
      item_count: items in the index.
      dimension: length of the vectors.
      k: items a query is answered with.
      spans: spans whose events it was trained and evaluated on.
      trained_until: targets before this time were trained on, seconds UTC.
      training_state: directory of the next warm start's state, relative to `directory`.
    """
    manifest = Manifest(
        item_count=item_count,
        dimension=dimension,
        k=k,
        spans=spans,
        trained_until=trained_until,
        training_state=training_state,
        files={name: hash_file(Path(directory, name)) for name in list_files(directory) if name != MANIFEST},
        library_versions=_library_versions(),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )
    write_manifest(directory, manifest)
    return manifest


def write_manifest(directory: str | os.PathLike[str], manifest: Manifest) -> None:
    """Writes `assets.extra/manifest.json` and waits until it is on the disk."""
    path = Path(directory, MANIFEST)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(manifest.model_dump_json(indent=2))
        file.flush()
        os.fsync(file.fileno())


def read_manifest(directory: str | os.PathLike[str]) -> Manifest:
    """Reads a bundle's manifest.

    Raises:
      BundleError: the manifest is missing or is not one.
    """
    path = Path(directory, MANIFEST)
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror}); expected a bundle with a manifest: push it again."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise BundleError(
            f"{path} is damaged: {where}: {first['msg']}; expected a manifest as Tandem writes it: push"
            " again."
        ) from error


def list_files(directory: str | os.PathLike[str]) -> list[str]:
    """Every file below a directory, as sorted relative paths with `/`."""
    root = Path(directory)
    return sorted(
        Path(parent, name).relative_to(root).as_posix()
        for parent, _, names in os.walk(root)
        for name in names
    )


def hash_file(path: str | os.PathLike[str], copy_to: BinaryIO | None = None) -> str:
    """SHA-256 of a file in hexadecimal; also writes what it reads to `copy_to`."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if copy_to is not None:
                copy_to.write(block)
    return digest.hexdigest()


def _library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
