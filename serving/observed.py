"""One call as it ended: what metrics and the request log are made of."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Observed(NamedTuple):
    """A call that got its answer or its refusal.

    Attributes:
      method: such as "Predict".
      entrypoint: "GRPC" or "REST".
      status: name of the gRPC status code; "OK" for an answer.
      seconds: from the request's arrival in the server to its answer, both decoded.
      request: its message; none where it was refused unread.
      response: of `Predict`, the serialised answer; none where it was refused.
      message: why it was refused, "" where it was not; may quote the request.
    """

    method: str
    entrypoint: str
    status: str
    seconds: float
    request: Any = None
    response: bytes | None = None
    message: str = ""


Observer = Callable[[Observed], None]
