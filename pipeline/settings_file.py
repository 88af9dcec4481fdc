"""A YAML file of settings: read as a mapping, its mistakes told in one line."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from transform.errors import TandemError


def read_mapping(path: str | Path, what: str, example: str, key: str) -> dict[str, Any]:
    """Reads a YAML file that holds a mapping.

    Args:
      path: of the file.
      what: names the file in a message, such as "profile".
      example: a file that is one.
      key: a key that it has.

    Raises:
      TandemError: the file is missing, is no YAML, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise TandemError(f"{what} {str(path)!r} does not exist; expected a YAML file such as {example}.")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TandemError(
            f"{what} {str(path)!r} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(tree, dict):
        raise TandemError(
            f"{what} {str(path)!r} holds {type(tree).__name__}, expected a mapping such as '{key}:'."
        )
    return tree


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """Names every wrong key or value of a model, with what was received and what is near it."""
    problems = []
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        key = ".".join(location)
        if problem["type"] == "extra_forbidden":
            known = _known_keys(model, location[:-1])
            close = difflib.get_close_matches(location[-1], known, n=1)
            hint = f"; expected one of {', '.join(known)}" if known else ""
            problems.append(f"unknown setting {key!r}{f'; did you mean {close[0]!r}?' if close else hint}")
        elif problem["type"] == "missing":
            problems.append(f"setting {key!r} is missing")
        elif not key:  # a rule over several settings names them itself
            problems.append(problem["msg"].removeprefix("Value error, "))
        else:
            received = repr(problem["input"])
            shown = received if len(received) <= 80 else f"{received[:77]}..."
            problems.append(f"setting {key!r}: {problem['msg']}, received {shown}")
    return "; ".join(problems)


def _known_keys(model: Any, location: list[str]) -> list[str]:
    for part in location:
        if part.isdigit():
            continue
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is None:
            return []
        model = field.annotation
        model = next((a for a in getattr(model, "__args__", ()) if hasattr(a, "model_fields")), model)
    return sorted(model.model_fields) if hasattr(model, "model_fields") else []
