"""A connection to a retrieval server: plain or TLS, with or without a token."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

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


_Client = TypeVar("_Client", bound="Connection")


class Connection:
    """One channel to a server that a client asks; close it, or use it in a `with` statement.

    Args:
      address: host:port.
      model_name: the name that the server serves it under.
      timeout_seconds: of one call.
      security: token and certificates.
    """

    def __init__(self, address: str, model_name: str, timeout_seconds: float, security: Security) -> None:
        self.address = address
        self._model_name = model_name
        self._timeout = timeout_seconds
        self._channel = open_channel(address, security)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self: _Client) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Says in a user's words what a gRPC error means."""
        import grpc

        try:
            yield
        except grpc.RpcError as error:
            code, details = error.code().name, error.details()
            if code == "UNAVAILABLE" and "no version" not in details:
                raise TandemError(
                    f"no server answers at {self.address}, expected a retrieval server: start one with 'tandem"
                    " serve', and speak TLS to it if, and only if, it does."
                ) from error
            raise TandemError(f"{self.address} answers {code}: {details}") from error


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
