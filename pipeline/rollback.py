"""Makes an older bundle the served one again."""

import os

from pipeline.lock import only_run
from serving.bundle import publish, read_manifest, verify_bundle, versions
from transform.errors import TandemError


def rollback(push_dir: str, version: int | None = None) -> tuple[int, int]:
    """Publishes an older bundle again, as the newest version.

    Versions are immutable and servers take the highest number, so going back is a push of the old bundle under a new
    number: every server swaps to it as to any push, and the next retrain starts from its training state and its spans.

    Args:
      push_dir: the directory of versions.
      version: which to go back to; the parent of the newest by default.

    Returns:
      (the version whose bundle it is, its new number).

    Raises:
      TandemError: there is no such version, or it is damaged.
    """
    there = versions(push_dir)
    if not there:
        raise TandemError(f"push directory {push_dir!r} holds no version, expected at least two to go back.")
    if version is None:
        version = read_manifest(os.path.join(push_dir, str(there[-1]))).parent_version
        if version is None:
            raise TandemError(
                f"version {there[-1]} has no parent to go back to; name one of {there} with 'tandem rollback VERSION'."
            )
    if version not in there:
        raise TandemError(f"version {version} is not in {push_dir!r}; expected one of {there}.")
    if version == there[-1]:
        raise TandemError(
            f"version {version} is the newest and served already; expected an older one of {there}."
        )
    with only_run(push_dir):
        manifest = verify_bundle(os.path.join(push_dir, str(version)))
        path = publish(
            os.path.join(push_dir, str(version)), push_dir, metrics=manifest.metrics, parent=version
        )
    return version, int(path.name)
