"""Who may call what: bearer tokens with roles, read from a file."""

import datetime
import enum
import hashlib
import hmac
import math
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from serving.request_inputs import RequestError
from transform.errors import TandemError

# Short tokens can be guessed; 16 characters of base64 are 96 bits.
_SHORTEST = 16
_SCHEME = "bearer "


class Role(enum.IntEnum):
    """What a token is good for; the greater includes the smaller."""

    QUERY = 1
    ADMIN = 2


# Anyone may ask for health: the probes of an orchestrator have no token. The rest is for QUERY.
_OPEN = ("/grpc.health.v1.Health/",)
_ADMIN = ("/tensorflow.serving.ModelService/HandleReloadConfigRequest", "/tandem.Catalog/Apply")


class Grant(NamedTuple):
    """What a token is good for.

    Attributes:
      role: what it may do.
      until: when it ends, seconds UTC.
    """

    role: Role
    until: float = math.inf


class Access:
    """Decides about calls; without tokens everyone may do everything."""

    def __init__(self, tokens: dict[str, Grant] | None = None) -> None:
        self._grants = None if tokens is None else [(_digest(t), grant) for t, grant in tokens.items()]

    def check(self, method: str, authorization: str | None) -> None:
        """Lets a call pass, or not.

        Args:
          method: full name, such as "/tensorflow.serving.PredictionService/Predict".
          authorization: the header of that name; none where there is none, or more than one.

        Raises:
          RequestError: UNAUTHENTICATED without a known token, PERMISSION_DENIED with one of too small a role.
        """
        if self._grants is None or method.startswith(_OPEN):
            return
        if authorization is None or not authorization.lower().startswith(_SCHEME):
            raise RequestError(
                "UNAUTHENTICATED", "no token was received, expected the header 'authorization: Bearer TOKEN'"
            )
        grant = self._grant(authorization[len(_SCHEME) :].strip())
        if grant is None:
            raise RequestError("UNAUTHENTICATED", "the token is unknown, expected one of the server's")
        if grant.until <= time.time():
            raise RequestError("UNAUTHENTICATED", "the token has expired, expected one that has not")
        if method in _ADMIN and grant.role < Role.ADMIN:
            raise RequestError("PERMISSION_DENIED", "the token has role query, expected role admin")

    def _grant(self, token: str) -> Grant | None:
        """Compares with every token to the end: how long that takes tells nothing about any of them."""
        received, found = _digest(token), None
        for digest, grant in self._grants or ():
            if hmac.compare_digest(received, digest):
                found = grant
        return found


def read_tokens(path: str) -> dict[str, Grant]:
    """Reads a file of lines "ROLE TOKEN" or "ROLE TOKEN END", ROLE being query or admin and END an ISO 8601 date or time,
    UTC unless it says otherwise; empty lines and # comments are skipped.

    Returns:
      Token -> what it is good for.

    Raises:
      TandemError: the file cannot be read, or a line is wrong; tells its number, never the token.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise TandemError(
            f"{path} cannot be read ({why}), expected a file of tokens: name another with --tokens."
        ) from error
    tokens: dict[str, Grant] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        wrong = _fault(words, tokens)
        if wrong:
            raise TandemError(f"{path}, line {number}: {wrong}: mend the line.")
        tokens[words[1]] = Grant(Role[words[0].upper()], *map(_seconds, words[2:]))
    if not tokens:
        raise TandemError(f"{path} holds no token, expected lines such as 'query TOKEN': add one.")
    return tokens


def _fault(words: list[str], known: Collection[str]) -> str:
    if len(words) not in (2, 3) or words[0] not in ("query", "admin"):
        return "expected 'query TOKEN' or 'admin TOKEN', and the end of its time if it has one"
    try:
        any(map(_seconds, words[2:]))
    except ValueError:
        return "the third word is no date or time, expected one such as 2027-01-31 or 2027-01-31T12:00:00"
    if len(words[1]) < _SHORTEST:
        return f"the token has {len(words[1])} characters, expected at least {_SHORTEST}"
    return "the token is there already, expected each once" if words[1] in known else ""


def _seconds(text: str) -> float:
    moment = datetime.datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", errors="surrogateescape")).digest()
