"""The gRPC service `tandem.Catalog`: changes of the catalogue, as well-known types, so that no client needs our code."""

from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, struct_pb2

from serving.servicers import GrpcCaller

if TYPE_CHECKING:
    from serving.answers import Answers

SERVICE = "tandem.Catalog"
APPLY = "Apply"


def add_catalogue_service(server: grpc.aio.Server, answers: "Answers", threads: Executor) -> str:
    """Adds the service, and tells reflection what it looks like.

    Returns:
      Its name.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="tandem/catalog.proto",
        package="tandem",
        syntax="proto3",
        dependency=[struct_pb2.DESCRIPTOR.name],
    )
    message = f".{struct_pb2.Struct.DESCRIPTOR.full_name}"
    file.service.add(name="Catalog").method.add(name=APPLY, input_type=message, output_type=message)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())

    def respond(request: struct_pb2.Struct, caller: GrpcCaller) -> Any:
        body = json_format.MessageToDict(request)
        return json_format.ParseDict(answers.change(body, caller), struct_pb2.Struct())

    async def apply(request: struct_pb2.Struct, context: Any) -> Any:
        return await GrpcCaller(context).answered_in(threads, lambda caller: respond(request, caller))

    handler = grpc.unary_unary_rpc_method_handler(
        apply, struct_pb2.Struct.FromString, struct_pb2.Struct.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {APPLY: handler}),))
    return SERVICE
