"""Evaluator: full-corpus retrieval metrics by slice on the bundle's `evaluate` signature, against gates and the previous push."""

import os
from collections.abc import Sequence
from typing import Any

import tensorflow_model_analysis as tfma
from tfx import types
from tfx.components import Evaluator
from tfx.components.evaluator import executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import path_utils

from pipeline.settings import Gate

METRICS = ("recall_at_10", "recall_at_100", "ndcg_at_10", "mrr")
SLICES = (("view",), ("view", "user_group"), ("view", "query_group"))
SIGNATURE = "evaluate"
# MeanPrediction skips examples without a label, whatever it is; every row has a timestamp.
_ANY_LABEL = "timestamp"


def eval_config(gates: Sequence[Gate]) -> tfma.EvalConfig:
    """TFMA's configuration for the declared gates.

    Held-out rows come in views (all targets, targets new to the user, new items, tail items), so no slice mixes two views.

    Args:
      gates: the bars; a gate without a bar against the previous push is checked by itself.

    Returns:
      A config with models `candidate` and `baseline`, the means of `METRICS`, and `SLICES`.
    """
    specs = [
        tfma.MetricsSpec(
            output_names=[metric],
            metrics=[
                tfma.MetricConfig(
                    class_name="MeanPrediction",
                    per_slice_thresholds=[_threshold(gate) for gate in gates if gate.metric == metric],
                )
            ],
        )
        for metric in METRICS
    ]
    specs.append(tfma.MetricsSpec(metrics=[tfma.MetricConfig(class_name="ExampleCount")]))
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                name=name,
                signature_name=SIGNATURE,
                model_type="tf_generic",
                label_key=_ANY_LABEL,
                is_baseline=name == "baseline",
            )
            for name in ("candidate", "baseline")
        ],
        slicing_specs=[tfma.SlicingSpec(feature_keys=list(keys)) for keys in SLICES],
        metrics_specs=specs,
    )


def _threshold(gate: Gate) -> tfma.PerSliceMetricThreshold:
    threshold = tfma.MetricThreshold()
    if gate.at_least is not None:
        threshold.value_threshold.lower_bound.value = gate.at_least
    if gate.lose_at_most is not None:
        threshold.change_threshold.absolute.value = -gate.lose_at_most
        threshold.change_threshold.direction = tfma.MetricDirection.HIGHER_IS_BETTER
    return tfma.PerSliceMetricThreshold(
        slicing_specs=[tfma.SlicingSpec(feature_values={"view": gate.view})], threshold=threshold
    )


class Executor(executor.Executor):
    """TFX's Evaluator; a previous push that is not there (bootstrap) leaves only the absolute bars."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs TFMA and writes evaluation and blessing."""
        inputs = dict(input_dict)
        baseline = artifact_utils.get_single_uri(inputs[standard_component_specs.BASELINE_MODEL_KEY])
        if not os.path.isdir(path_utils.serving_model_dir(baseline)):
            del inputs[standard_component_specs.BASELINE_MODEL_KEY]
        super().Do(inputs, output_dict, exec_properties)


class RetrievalEvaluator(Evaluator):
    """The standard component with the executor above."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)


def slice_metrics(evaluation_uri: str) -> dict[str, dict[str, float]]:
    """Reads an evaluation artifact.

    Returns:
      {"view:all": {"recall_at_10": .., "rows": ..}, "view:all,user_group:new": ..}, only the candidate's figures.
    """
    table: dict[str, dict[str, float]] = {}
    for slice_key, by_output in _candidate_metrics(evaluation_uri):
        name = ",".join(f"{column}:{value}" for column, value in slice_key)
        row: dict[str, float] = {}
        for output, by_sub_key in by_output.items():
            for metrics in by_sub_key.values():
                for metric, value in metrics.items():
                    if metric == "mean_prediction":
                        row[output] = float(value["doubleValue"])
                    elif metric == "example_count":
                        row["rows"] = float(value["doubleValue"])
        table[name] = row
    return table


def _candidate_metrics(evaluation_uri: str) -> list[Any]:
    """TFMA leaves the model's name out where it evaluated one model only (a bootstrap)."""
    result = tfma.load_eval_result(evaluation_uri)
    if len(result.config.model_specs) > 1:
        result = tfma.load_eval_result(evaluation_uri, model_name="candidate")
    return list(result.slicing_metrics)


def refusals(evaluation_uri: str) -> list[str]:
    """One line for each gate that the candidate failed: metric, slice, value and bar."""
    lines = []
    result = tfma.load_validation_result(evaluation_uri)
    for slice_failures in result.metric_validations_per_slice:
        where = ",".join(
            f"{key.column}:{key.bytes_value.decode()}" for key in slice_failures.slice_key.single_slice_keys
        )
        for failure in slice_failures.failures:
            kind = "change against the previous push" if failure.metric_key.is_diff else "value"
            value = failure.metric_value.double_value.value
            bounds = failure.metric_threshold
            bar = (
                -abs(bounds.change_threshold.absolute.value)
                if failure.metric_key.is_diff
                else bounds.value_threshold.lower_bound.value
            )
            lines.append(
                f"{failure.metric_key.output_name} on {where}: {kind} {value:.4f}, the gate asks for at least {bar:.4f}"
            )
    for missing in result.missing_slices:
        lines.append(
            f"no held-out rows in slice {dict(missing.feature_values)}, so its gate cannot be checked"
        )
    return lines
