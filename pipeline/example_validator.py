"""StrictExampleValidator: TFX's ExampleValidator per split environment, and a run that stops at an anomaly."""

import json
import os
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.components import ExampleValidator
from tfx.components.example_validator import executor
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, writer_utils

from transform.errors import TandemError


class Executor(executor.Executor):
    """Checks each split's statistics in the schema environment of the same name."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes one anomalies file a split.

        Raises:
          TandemError: a split has an anomaly; the message lists feature, split and TFDV's words for it.
        """
        statistics = artifact_utils.get_single_instance(input_dict[standard_component_specs.STATISTICS_KEY])
        schema_dir = artifact_utils.get_single_uri(input_dict[standard_component_specs.SCHEMA_KEY])
        schema = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema_dir))
        output = artifact_utils.get_single_instance(output_dict[standard_component_specs.ANOMALIES_KEY])
        splits = artifact_utils.decode_split_names(statistics.split_names)
        output.split_names = artifact_utils.encode_split_names(splits)
        output.span = statistics.span
        found = []
        for split in splits:
            anomalies = tfdv.validate_statistics(
                statistics=stats_artifact_utils.load_statistics(statistics, split).proto(),
                schema=schema,
                environment=split,
            )
            path = os.path.join(artifact_utils.get_split_uri([output], split), executor.DEFAULT_FILE_NAME)
            writer_utils.write_anomalies(path, anomalies)
            found += describe_anomalies(split, anomalies)
        output.set_json_value_custom_property(
            executor.ARTIFACT_PROPERTY_BLESSED_KEY, json.dumps({split: not found for split in splits})
        )
        if found:
            raise TandemError(
                f"the data does not fit the schema, so nothing was trained: {'; '.join(found)}."
                " Mend the data, or declare the feature differently in the profile's 'features'."
            )


def describe_anomalies(split: str, anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """One line an anomaly: split, feature and TFDV's own description, sorted by feature."""
    lines = [
        f"split {split}, feature {name!r}: {info.short_description.lower()} ({info.description})"
        for name, info in sorted(anomalies.anomaly_info.items())
    ]
    if anomalies.HasField("dataset_anomaly_info"):
        lines.append(f"split {split}: {anomalies.dataset_anomaly_info.description}")
    return lines


class StrictExampleValidator(ExampleValidator):
    """The standard component with the executor above."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
