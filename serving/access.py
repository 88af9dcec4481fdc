"""Who may call what: bearer tokens with roles, read from a file."""

import enum
import hashlib
import hmac
from pathlib import Path

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


class Access:
    """Decides about calls; without tokens everyone may do everything."""

    def __init__(self, tokens: dict[str, Role] | None = None) -> None:
        self._roles = None if tokens is None else [(_digest(t), role) for t, role in tokens.items()]

    def check(self, method: str, authorization: str | None) -> None:
        """Lets a call pass, or not.

        Args:
          method: full name, such as "/tensorflow.serving.PredictionService/Predict".
          authorization: the header of that name; none where there is none, or more than one.

        Raises:
          RequestError: UNAUTHENTICATED without a known token, PERMISSION_DENIED with one of too small a role.
        """
        if self._roles is None or method.startswith(_OPEN):
            return
        if authorization is None or not authorization.lower().startswith(_SCHEME):
            raise RequestError(
                "UNAUTHENTICATED", "no token was received, expected the header 'authorization: Bearer TOKEN'"
            )
        role = self._role(authorization[len(_SCHEME) :].strip())
        if role is None:
            raise RequestError("UNAUTHENTICATED", "the token is unknown, expected one of the server's")
        if method in _ADMIN and role < Role.ADMIN:
            raise RequestError("PERMISSION_DENIED", "the token has role query, expected role admin")

    def _role(self, token: str) -> Role | None:
        """Compares with every token to the end: how long that takes tells nothing about any of them."""
        received, found = _digest(token), None
        for digest, role in self._roles or ():
            if hmac.compare_digest(received, digest):
                found = role
        return found


def read_tokens(path: str) -> dict[str, Role]:
    """Reads a file of lines "ROLE TOKEN", ROLE being query or admin; empty lines and # comments are skipped.

    Returns:
      Token -> role.

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
    tokens: dict[str, Role] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        wrong = _fault(words, tokens)
        if wrong:
            raise TandemError(f"{path}, line {number}: {wrong}: mend the line.")
        tokens[words[1]] = Role[words[0].upper()]
    if not tokens:
        raise TandemError(f"{path} holds no token, expected lines such as 'query TOKEN': add one.")
    return tokens


def _fault(words: list[str], known: dict[str, Role]) -> str:
    if len(words) != 2 or words[0] not in ("query", "admin"):
        return "expected 'query TOKEN' or 'admin TOKEN'"
    if len(words[1]) < _SHORTEST:
        return f"the token has {len(words[1])} characters, expected at least {_SHORTEST}"
    return "the token is there already, expected each once" if words[1] in known else ""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", errors="surrogateescape")).digest()
