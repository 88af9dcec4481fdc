"""Inputs of several requests become those of one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.inputs import no_value

Arrays = Mapping[str, NDArray[Any]]


def joined_inputs(requests: Sequence[Arrays], specs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """All rows, one below the other; shorter histories and lists are filled up with "no entry"."""
    joined = {}
    for name, spec in specs.items():
        if not any(name in request for request in requests):
            continue  # a filter that none of them has
        parts = [request[name] if name in request else _no_filter(request, spec) for request in requests]
        if spec.shape.rank == 2:
            length = max(part.shape[1] for part in parts)
            filler = no_value(spec.dtype)
            parts = [
                part
                if part.shape[1] == length
                else np.pad(part, ((0, 0), (0, length - part.shape[1])), constant_values=filler)
                for part in parts
            ]
        joined[name] = np.concatenate(parts)
    return joined


def _no_filter(request: Arrays, spec: Any) -> NDArray[Any]:
    shape = (len(next(iter(request.values()))), spec.shape[-1] or 0)[: spec.shape.rank]
    return np.full(shape, no_value(spec.dtype), spec.dtype.as_numpy_dtype)
