"""A connection to a retrieval server: plain or TLS, with or without a token."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from transform.errors import TandemError

if TYPE_CHECKING:
    import grpc


class Security(NamedTuple):
    """How a client proves who it is, and knows the server.

    Attributes:
      token: sent with every call; "" for none.
      ca_file: PEM roots that the server's certificate must go back to; "": no TLS.
      cert_file: the client's own PEM certificate, for mutual TLS; "" for none.
      key_file: its private key.
    """

    token: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


PLAIN = Security()


def open_channel(address: str, security: Security = PLAIN) -> "grpc.Channel":
    """A channel to host:port.

    Raises:
      TandemError: a file cannot be read.
    """
    import grpc

    if not security.ca_file:
        channel = grpc.insecure_channel(address)
    else:
        credentials = grpc.ssl_channel_credentials(
            _read(security.ca_file), _read(security.key_file), _read(security.cert_file)
        )
        channel = grpc.secure_channel(address, credentials)
    return grpc.intercept_channel(channel, _with_token(security.token)) if security.token else channel


def _with_token(token: str) -> Any:
    import grpc

    class WithToken(grpc.UnaryUnaryClientInterceptor):
        """Adds the token to a call."""

        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            """Goes on with one more piece of metadata."""
            metadata = [*(details.metadata or ()), ("authorization", f"Bearer {token}")]
            return continuation(details._replace(metadata=metadata), request)

    return WithToken()


def _read(path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TandemError(f"{path} cannot be read ({error.strerror}), expected a PEM file.") from error
