"""What the Kubernetes API knows: documents against the models of its Python client, unknown fields too."""

import json
import re
from typing import Any, NamedTuple

from kubernetes import client

# What holds no other model, as the client writes types.
PLAIN = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (int, float),
    "object": object,
    "datetime": str,
    "IntOrString": (int, str),
}
API = client.ApiClient()


def model_of(document: dict[str, Any]) -> str:
    """("apps/v1", "Deployment") -> "V1Deployment", as the client names its models."""
    return document["apiVersion"].split("/")[-1].capitalize() + document["kind"]


def problems(value: Any, kind: str, where: str) -> list[str]:
    """What of a document the Kubernetes API does not know, by path: fields that are not there, values of another type."""
    if found := re.fullmatch(r"list\[(.*)\]", kind):
        if not isinstance(value, list):
            return [f"{where}: {value!r} is no list"]
        return [p for n, one in enumerate(value) for p in problems(one, found[1], f"{where}[{n}]")]
    if found := re.fullmatch(r"dict\(str, (.*)\)", kind):
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no mapping"]
        return [p for key, one in value.items() for p in problems(one, found[1], f"{where}.{key}")]
    if kind in PLAIN:
        is_flag_as_number = isinstance(value, bool) and kind not in ("bool", "object")
        return (
            []
            if isinstance(value, PLAIN[kind]) and not is_flag_as_number
            else [f"{where}: {value!r} is no {kind}"]
        )
    model = getattr(client, kind)
    if not isinstance(value, dict):
        return [f"{where}: {value!r} is no {kind}"]
    attributes = {written: name for name, written in model.attribute_map.items()}
    return [
        problem
        for key, one in value.items()
        for problem in (
            problems(one, model.openapi_types[attributes[key]], f"{where}.{key}")
            if key in attributes
            else [f"{where}.{key}: {kind} has no such field"]
        )
    ]


class _Response(NamedTuple):
    data: str


def deserialised(value: Any, kind: str) -> Any:
    """As the client reads what a cluster sends; a required field that is missing is a ValueError."""
    return API.deserialize(_Response(json.dumps(value)), kind)


def as_sent(read: Any) -> Any:
    """A model as the client would send it."""
    return API.sanitize_for_serialization(read)
