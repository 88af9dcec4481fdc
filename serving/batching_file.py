"""TensorFlow Serving's batching parameters, in the text format of `--batching_parameters_file`."""

from pathlib import Path
from typing import Any

from serving.batching import BatchingParameters
from transform.errors import TandemError


def read_batching_parameters(path: str) -> BatchingParameters:
    """Reads lines such as `max_batch_size { value: 32 }`; what is left out has Tandem's own default.

    Raises:
      TandemError: the file cannot be read, or sets what is not offered or out of range.
    """
    from google.protobuf import text_format

    try:
        parsed = text_format.Parse(Path(path).read_text(encoding="utf-8"), _message())
    except OSError as error:
        raise TandemError(
            f"{path} cannot be read ({error.strerror}), expected batching parameters: name another with"
            " --batching-parameters-file."
        ) from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise TandemError(
            f"{path}: {error}; expected some of {', '.join(BatchingParameters._fields)}, each {{ value: N }}."
        ) from error
    given = {field.name: value.value for field, value in parsed.ListFields()}
    for name, value in given.items():
        least = 0 if name == "batch_timeout_micros" else 1
        if value < least:
            raise TandemError(f"{path}: {name} is {value}, expected at least {least}: mend it.")
    return BatchingParameters(**given)


def _message() -> Any:
    """An empty message with an `Int64Value` for each parameter, as the stock server's `BatchingParameters`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    file = descriptor_pb2.FileDescriptorProto(name="batching.proto", package="tandem", syntax="proto3")
    file.dependency.append(wrappers.name)
    message = file.message_type.add(name="BatchingParameters")
    for number, name in enumerate(BatchingParameters._fields, start=1):
        kinds = descriptor_pb2.FieldDescriptorProto
        message.field.add(
            name=name,
            number=number,
            label=kinds.LABEL_OPTIONAL,
            type=kinds.TYPE_MESSAGE,
            type_name=".google.protobuf.Int64Value",
        )
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("tandem.BatchingParameters")
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)()
