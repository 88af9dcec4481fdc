"""A client that changes the catalogue of a running server."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from serving.channel import PLAIN, Connection, Security
from serving.settings import MODEL_NAME

_APPLY = "/tandem.Catalog/Apply"


class Applied(NamedTuple):
    """What became of a change.

    Attributes:
      upserted: items that were put into the catalogue, or given another content.
      deleted: ids that were taken out of it, and stay out.
      not_found: those of them that no loaded version had.
      versions: that answer with the change.
    """

    upserted: int
    deleted: int
    not_found: tuple[str, ...]
    versions: tuple[int, ...]


class CatalogueClient(Connection):
    """Changes a server's catalogue; close it, or use it in a `with` statement."""

    def __init__(
        self,
        address: str,
        model_name: str = MODEL_NAME,
        timeout_seconds: float = 120.0,
        security: Security = PLAIN,
    ) -> None:
        super().__init__(address, model_name, timeout_seconds, security)

    def apply(self, upsert: Sequence[Mapping[str, Any]] = (), delete: Sequence[str] = ()) -> Applied:
        """Makes one change: all of it is in the answers and on the disk when this returns, or nothing is.

        Args:
          upsert: items, column -> text or number; none or "" for no value.
          delete: item ids.

        Raises:
          TandemError: the server cannot be reached or refuses the change.
        """
        from google.protobuf import json_format, struct_pb2

        body = {"upsert": [dict(item) for item in upsert], "delete": list(delete)}
        call = self._channel.unary_unary(
            _APPLY, struct_pb2.Struct.SerializeToString, struct_pb2.Struct.FromString
        )
        with self._explained():
            answer = json_format.MessageToDict(
                call(json_format.ParseDict(body, struct_pb2.Struct()), timeout=self._timeout)
            )
        return Applied(
            int(answer["upserted"]),
            int(answer["deleted"]),
            tuple(answer["not_found"]),
            tuple(map(int, answer["versions"])),
        )

    def item_columns(self) -> dict[str, bool]:
        """Columns that the newest version reads of an item -> whether it holds numbers rather than text.

        Raises:
          TandemError: the server cannot be reached, or has no version yet.
        """
        import tensorflow as tf
        from tensorflow_serving.apis import get_model_metadata_pb2, prediction_service_pb2_grpc

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self._model_name
        stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        with self._explained():
            response = stub.GetModelMetadata(request, timeout=self._timeout)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(definitions)
        inputs = definitions.signature_def["embed_item"].inputs
        return {name: inputs[name].dtype == tf.float32.as_datatype_enum for name in sorted(inputs)}
