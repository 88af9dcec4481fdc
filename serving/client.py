"""A client that knows nothing but TensorFlow Serving's API."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from serving.channel import PLAIN, Connection, Security, open_channel
from serving.item_filter import NO_FILTER, ItemFilter
from serving.settings import MODEL_NAME
from transform.errors import TandemError

_POLL_SECONDS = 0.2


class Interaction(NamedTuple):
    """Something a user did.

    Attributes:
      item_id: with which item.
      event_type: how; "" where that is unknown.
      age_days: how long ago, in days; NaN where that is unknown.
    """

    item_id: str
    event_type: str = ""
    age_days: float = float("nan")


class SearchResult(NamedTuple):
    """An answer.

    Attributes:
      item_ids: best first.
      scores: inner products, with the history's bonus; of related items, cosines.
      version: of the bundle that answered.
      milliseconds: from request to answer, as the client saw it.
    """

    item_ids: list[str]
    scores: list[float]
    version: int
    milliseconds: float


class ItemInfo(NamedTuple):
    """What the bundle knows about an item; "" where it does not."""

    title: str
    category: str


class RetrievalClient(Connection):
    """Asks a retrieval server; close it, or use it in a `with` statement."""

    def __init__(
        self,
        address: str,
        model_name: str = MODEL_NAME,
        timeout_seconds: float = 10.0,
        security: Security = PLAIN,
    ) -> None:
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        super().__init__(address, model_name, timeout_seconds, security)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def search(
        self,
        query: str = "",
        history: Sequence[str | Interaction] = (),
        k: int = 10,
        *,
        exact: bool = False,
        filters: ItemFilter = NO_FILTER,
        **features: str | float,
    ) -> SearchResult:
        """The k best items for a query, a history, or both; fewer where fewer pass the filters.

        Args:
          query: text; "" for none.
          history: newest first; a plain id stands for an interaction of unknown type and age.
          k: how many; at most what the bundle answers.
          exact: compare with every item instead of asking the index.
          filters: which items may be answered.
          **features: declared user and context features by name.

        Raises:
          TandemError: the server cannot be reached or refuses the request; k is more than it answers.
        """
        inputs: dict[str, Any] = {"query": [query]}
        if history:
            entries = [Interaction(entry) if isinstance(entry, str) else entry for entry in history]
            inputs["history_item_ids"] = [[entry.item_id for entry in entries]]
            inputs["history_event_types"] = [[entry.event_type for entry in entries]]
            inputs["history_ages"] = [[entry.age_days for entry in entries]]
        inputs.update({name: [value] for name, value in features.items()})
        inputs.update(filters.inputs())
        return self._best(inputs, "exact" if exact else "serving_default", k)

    def related(self, item_id: str, k: int = 10) -> SearchResult:
        """The k items whose vectors are nearest to an item's, by cosine; never the item itself.

        Raises:
          TandemError: the server cannot be reached or does not know the item; k is more than it answers.
        """
        return self._best({"item_id": [item_id]}, "related", k)

    def items(self, item_ids: Sequence[str]) -> list[ItemInfo]:
        """Titles and categories, in the order of the ids.

        Raises:
          TandemError: the server cannot be reached or refuses the request.
        """
        if not item_ids:
            return []
        outputs = self._predict({"item_ids": list(item_ids)}, "items").outputs
        titles, categories = outputs["titles"].string_val, outputs["categories"].string_val
        return [
            ItemInfo(t.decode("utf-8"), c.decode("utf-8")) for t, c in zip(titles, categories, strict=True)
        ]

    def _best(self, inputs: dict[str, Any], signature: str, k: int) -> SearchResult:
        """The first k of one request's answer."""
        if k < 1:
            raise TandemError(f"k is {k}, expected at least 1.")
        started = time.perf_counter()
        response = self._predict(inputs, signature)
        milliseconds = (time.perf_counter() - started) * 1000
        ids = [item.decode("utf-8") for item in response.outputs["item_ids"].string_val]
        if k > len(ids):
            raise TandemError(f"k is {k}, expected at most {len(ids)}: the bundle answers no more.")
        ids = [item for item in ids[:k] if item]  # the rest is empty where fewer are eligible
        scores = list(response.outputs["scores"].float_val)[: len(ids)]
        return SearchResult(ids, scores, response.model_spec.version.value, milliseconds)

    def _predict(self, inputs: dict[str, Any], signature: str) -> Any:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name = self._model_name
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            first = _first(value)
            is_text = name != "history_ages" and isinstance(first, str)
            dtype = tf.string if is_text else tf.bool if isinstance(first, bool) else tf.float32
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value, dtype))
        with self._explained():
            return self._stub.Predict(request, timeout=self._timeout)


def wait_until_available(
    address: str,
    timeout_seconds: float = 60.0,
    model_name: str = MODEL_NAME,
    version: int | None = None,
    security: Security = PLAIN,
) -> int:
    """Waits until a server has a version to answer from.

    Args:
      address: host:port.
      timeout_seconds: how long to wait.
      model_name: which model.
      version: which version; none: any.
      security: token and certificates.

    Returns:
      The version.

    Raises:
      TandemError: the time is over; says what the server last answered.
    """
    import grpc
    from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model_name
    deadline = time.monotonic() + timeout_seconds
    last = "no answer"
    with open_channel(address, security) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        while time.monotonic() < deadline:
            try:
                statuses = stub.GetModelStatus(request, timeout=5.0).model_version_status
            except grpc.RpcError as error:
                last = error.details() or error.code().name
            else:
                ready = [s.version for s in statuses if s.state == available]
                if ready and version in (None, *ready):
                    return int(version or ready[0])
                last = "; ".join(
                    s.status.error_message or f"version {s.version} is loading" for s in statuses
                )
            time.sleep(_POLL_SECONDS)
    raise TandemError(
        f"{address} has no version to answer from after {timeout_seconds:.0f} s, expected one ({last}):"
        " look at the server's log."
    )


def _first(value: Any) -> Any:
    while isinstance(value, list) and value:
        value = value[0]
    return value
