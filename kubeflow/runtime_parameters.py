"""Parameters that a run of a compiled pipeline can be given."""

from typing import Any

DAG = "tfx-dag"  # what TFX calls the steps before the exit step


def expose(spec: dict[str, Any], names: tuple[str, ...]) -> None:
    """Turns constants of steps into parameters of the pipeline, in place.

    Every step that takes a parameter of such a name takes the pipeline's; what was compiled is its default.
    PreviousPush.push_dir = "/p", Pusher.push_dir = "/p" -> pipeline.push_dir = "/p" by default, and both take it.

    Args:
      spec: `PipelineSpec` with an exit step, so that the steps are in the component `tfx-dag`.
      names: of parameters, which have one value throughout the pipeline.

    Raises:
      ValueError: no step takes a name, or two steps take different values.
    """
    steps = spec["components"][DAG]
    dag_task = spec["root"]["dag"]["tasks"][DAG]
    root = spec["root"].setdefault("inputDefinitions", {}).setdefault("parameters", {})
    inner = steps.setdefault("inputDefinitions", {}).setdefault("parameters", {})
    passed = dag_task.setdefault("inputs", {}).setdefault("parameters", {})
    for name in names:
        found: list[tuple[Any, str]] = []  # constant, type
        for task in steps["dag"]["tasks"].values():
            given = task.get("inputs", {}).get("parameters", {})
            if name in given:
                component = spec["components"][task["componentRef"]["name"]]
                kind = component["inputDefinitions"]["parameters"][name]["parameterType"]
                found.append((given[name]["runtimeValue"]["constant"], kind))
                given[name] = {"componentInputParameter": name}
        if not found or any(pair != found[0] for pair in found):
            raise ValueError(f"parameter {name!r} has the values {found} in the graph, expected one")
        value, kind = found[0]
        root[name] = {"parameterType": kind, "defaultValue": value, "isOptional": True}
        inner[name] = {"parameterType": kind}
        passed[name] = {"componentInputParameter": name}
