"""TFMA's configuration and results: full-corpus means by slice over the bundle's `evaluate` signature."""

import tensorflow_model_analysis as tfma

from pipeline.held_out import SIGNATURE
from serving.metrics import METRICS

SLICES = (("view",), ("view", "user_group"), ("view", "query_group"))
# MeanPrediction skips examples without a label, whatever it is; every row has a timestamp.
_ANY_LABEL = "timestamp"


def eval_config() -> tfma.EvalConfig:
    """The means of `METRICS` over `SLICES`, without bars: Gatekeeper has those.

    Held-out rows come in views (all targets, targets new to the user, new items, tail items, older days), so no slice
    mixes two views.
    """
    specs = [
        tfma.MetricsSpec(output_names=[metric], metrics=[tfma.MetricConfig(class_name="MeanPrediction")])
        for metric in METRICS
    ]
    specs.append(tfma.MetricsSpec(metrics=[tfma.MetricConfig(class_name="ExampleCount")]))
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(signature_name=SIGNATURE, model_type="tf_generic", label_key=_ANY_LABEL),
        ],
        slicing_specs=[tfma.SlicingSpec(feature_keys=list(keys)) for keys in SLICES],
        metrics_specs=specs,
    )


def slice_metrics(evaluation_uri: str) -> dict[str, dict[str, float]]:
    """Reads an evaluation artifact.

    Returns:
      {"view:all": {"recall_at_10": .., "rows": ..}, "user_group:new,view:all": ..}.
    """
    table: dict[str, dict[str, float]] = {}
    for slice_key, by_output in tfma.load_eval_result(evaluation_uri).slicing_metrics:
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
