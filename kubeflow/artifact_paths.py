"""Bucket URIs as the directories where a step finds them.

Before a step starts, Kubeflow's launcher copies its input artifacts from the bucket to a directory, and afterwards it
copies the output artifacts back: `minio://bucket/a` is `/minio/bucket/a`, `s3://...` is `/s3/...`, `gs://...` is
`/gcs/...`. Components work on files; so the URIs that they are given are those directories, and what they report
is turned back into URIs of the bucket.
"""

import copy
from typing import Any

_DIRECTORY_OF = {"minio://": "/minio/", "s3://": "/s3/", "gs://": "/gcs/"}


def local_path(uri: str) -> str:
    """The directory for a bucket URI; what is no bucket URI stays as it is.

    minio://mlpipeline/tandem/7/push -> /minio/mlpipeline/tandem/7/push
    """
    for scheme, directory in _DIRECTORY_OF.items():
        if uri.startswith(scheme):
            return directory + uri[len(scheme) :]
    return uri


def localised(executor_input: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """ExecutorInput with directories in place of bucket URIs.

    Args:
      executor_input: `ExecutorInput` as a mapping.

    Returns:
      The same with `uri` replaced in every input and output artifact, and directory -> bucket URI to turn back.
    """
    tree = copy.deepcopy(executor_input)
    uri_of = {}
    for side in ("inputs", "outputs"):
        for artifact in _artifacts(tree.get(side, {})):
            uri, directory = artifact["uri"], local_path(artifact["uri"])
            uri_of[directory] = uri
            artifact["uri"] = directory
    return tree, uri_of


def with_bucket_uris(executor_output: dict[str, Any], uri_of: dict[str, str]) -> dict[str, Any]:
    """ExecutorOutput with the bucket URIs that `localised` took out."""
    tree = copy.deepcopy(executor_output)
    for artifact in _artifacts(tree):
        artifact["uri"] = uri_of.get(artifact["uri"], artifact["uri"])
    return tree


def _artifacts(side: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        a for found in side.get("artifacts", {}).values() for a in found.get("artifacts", []) if "uri" in a
    ]
