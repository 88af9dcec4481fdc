"""What each part is worth: trainings of one data set that differ in one thing, full corpus, exact; with paired intervals."""

import argparse
import contextlib
import gc
import hashlib
import json
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transform.runtime import prepare_environment

prepare_environment()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from benchmarks.ablation_lines import LINES, VIEWS_SHOWN, Line  # noqa: E402
from benchmarks.judge import METRICS, changes_of  # noqa: E402
from benchmarks.quality_report import change_text  # noqa: E402
from benchmarks.report import table, write_section  # noqa: E402
from benchmarks.stages import run_up_to  # noqa: E402
from pipeline.settings import Settings, load_settings  # noqa: E402
from towers import query_texts, trainer  # noqa: E402
from towers.evaluation import evaluate_requests  # noqa: E402
from towers.examples import Column, Requests  # noqa: E402
from towers.job import Job  # noqa: E402
from transform.errors import TandemError  # noqa: E402
from transform.features import HISTORIES, SPLITS, VIEW, raw_feature_spec  # noqa: E402

_RESULTS = Path("benchmarks/results")
_SHARDS = "Split-{}/*"


def write_views(uris: Any, settings: Settings, views: Sequence[str], out: Path) -> list[Path]:
    """Transforms the held-out rows of each view, since split eval of Transform mixes the views.

    Returns:
      A TFRecord file a view.
    """
    import tensorflow_transform as tft
    from tensorflow_transform.coders import example_proto_coder

    output = tft.TFTransformOutput(uris["Transform"]["transform_graph"])
    schema = output.transformed_metadata.schema
    coder = example_proto_coder.ExampleProtoCoder(schema, serialized=False)
    nothing = {feature.name: np.array([]) for feature in schema.feature}  # columns that only items have
    layer = output.transform_features_layer()
    spec = raw_feature_spec(settings.features, "eval")
    files = sorted(
        str(path) for path in Path(uris["InteractionGen"]["examples"]).glob(_SHARDS.format("eval"))
    )
    made = [out / f"{view}.tfrecord" for view in views]
    with contextlib.ExitStack() as stack:
        writers = dict(
            zip(views, (stack.enter_context(tf.io.TFRecordWriter(str(p))) for p in made), strict=True)
        )
        for batch in tf.data.TFRecordDataset(files, "GZIP").batch(256):
            raw = tf.io.parse_example(batch, spec)
            rows = layer({name: raw[name] for name in spec})
            dense = {name: tf.RaggedTensor.from_sparse(value).to_list() for name, value in rows.items()}
            for place, view in enumerate(raw[VIEW].values.numpy()):
                if view.decode() in writers:
                    row = {name: np.array(values[place]) for name, values in dense.items()}
                    writers[view.decode()].write(coder.encode(nothing | row).SerializeToString())
    return made


def blanked(requests: Requests, columns: Sequence[str]) -> Requests:
    """The same requests without any value in some columns."""
    none = {
        name: Column(requests.columns[name].values[:0], np.zeros_like(requests.columns[name].offsets))
        for name in columns
    }
    return Requests(requests.columns | none)


def remembering(encode: Callable[..., Any], folder: Path, spent: list[float]) -> Callable[..., Any]:
    """Encodes texts once for all trainings that have the same encoder; adds the seconds that it takes to `spent`."""

    def encode_once(encoder: Any, tokens: Any, what: str, state_dir: str | None = None) -> Any:
        digest = hashlib.sha256(tokens.tobytes() + str(tokens.shape).encode())
        for weight in encoder.backbone.weights:
            digest.update(np.asarray(weight).tobytes())
        path = folder / f"texts-{digest.hexdigest()[:16]}.npy"
        if not path.exists():
            begin = time.perf_counter()
            np.save(path, encode(encoder, tokens, what, state_dir)[0])
            spent.append(time.perf_counter() - begin)
        return np.load(path), 0

    return encode_once


def tuning_once(tune: Callable[..., Any], folder: Path, spent: list[float]) -> Callable[..., Any]:
    """Tunes the encoder once for all trainings with the same settings of it; the same of `spent`."""

    def tune_once(features: Any, encoder: Any, *rest: Any) -> Any:
        path = folder / f"tuned-{hashlib.sha256(encoder.model_dump_json().encode()).hexdigest()[:16]}.npz"
        if not path.exists():
            begin = time.perf_counter()
            np.savez(path, *tune(features, encoder, *rest))
            spent.append(time.perf_counter() - begin)
        with np.load(path) as stored:
            return [stored[f"arr_{place}"] for place in range(len(stored.files))]

    return tune_once


def train(
    line: Line, settings: Settings, uris: Any, views: Sequence[Path], work: Path
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Trains once, with the line's change in effect.

    Returns:
      Means by view, steps, and the seconds of what is left when the encoder is tuned and texts are encoded; and by view
      each metric's values, float64 [requests].
    """
    found: dict[str, dict[str, Any]] = {}
    read = trainer.read_requests

    def of_views(model: Any, catalogue: Any, requests: Any, features: Any) -> dict[str, float]:
        for path in views:
            metrics = evaluate_requests(
                model, catalogue, trainer.read_requests([str(path)], features), features
            )
            found[path.stem] = {name: metrics.by_name()[name] for name in METRICS}
        return metrics.means()

    spent: list[float] = []
    remember = remembering(trainer.encode_new_texts, work, spent)
    changes = [
        (trainer, "encode_new_texts", remember),
        (query_texts, "encode_new_texts", remember),
        (trainer, "tune_encoder", tuning_once(trainer.tune_encoder, work, spent)),
        (trainer, "evaluate_model", of_views),
        (trainer, "read_requests", lambda *given: blanked(read(*given), line.blank)),
        *line.functions,
    ]
    with tempfile.TemporaryDirectory(dir=work) as out, contextlib.ExitStack() as stack:
        for module, name, value in changes:
            stack.enter_context(unittest.mock.patch.object(module, name, value))
        transformed = uris["Transform"]["transformed_examples"]
        with_histories = bool(settings.features.cooccurrence_items)
        job = Job(
            settings.features,
            settings.encoder,
            settings.model,
            settings.training,
            *([str(Path(transformed, _SHARDS.format(split)))] for split in SPLITS),
            uris["Transform"]["transform_graph"],
            f"{out}/Format-Serving",
            f"{out}/training_state",
            None,
            None,
            history_files=[str(Path(transformed, _SHARDS.format(HISTORIES)))] * with_histories,
        )
        summary = trainer.train(job)
    tf.keras.backend.clear_session()
    gc.collect()
    seconds = round(summary["seconds"] - sum(spent), 1)
    means = {
        view: {name: round(float(values.mean()), 4) for name, values in of.items()}
        for view, of in found.items()
    }
    return {"name": line.name, "views": means, "seconds": seconds, "steps": summary["steps"]}, found


def against_profile(
    found: dict[str, dict[str, Any]], is_profile: bool, work: Path
) -> dict[str, dict[str, list[float] | None]]:
    """How a line's values changed against the profile's on the same requests: view -> metric -> [change, low, high].

    The profile's own are kept in `work`, for the lines after it; it has no changes.
    """
    path = work / "profile_values.npz"
    if is_profile:
        np.savez(
            path, **{f"{view} {name}": values for view, of in found.items() for name, values in of.items()}
        )
        return {}
    with np.load(path) as stored:
        return {
            view: changes_of(of, {name: stored[f"{view} {name}"] for name in of})
            for view, of in found.items()
        }


def report(name: str, result: dict[str, Any]) -> str:
    """The table of docs/benchmarks.md, in the order of the data set's lines."""
    views = list(result["lines"][0]["views"])
    shown = [(view, metric) for view in views for metric in METRICS[:2]]
    names = [f"{view}, {metric.replace('recall_at_', '@')}" for view, metric in shown]
    header = ["", *names, *(f"change of {name}" for name in names), "seconds"]
    order = [line.name for line in LINES[name]]
    rows = [
        [
            line["name"],
            *(f"{line['views'][view][metric]:.4f}" for view, metric in shown),
            *(
                change_text(line["changes"][view][metric] if line["changes"] else None)
                for view, metric in shown
            ),
            f"{line['seconds']:.0f}",
        ]
        for line in sorted(result["lines"], key=lambda line: order.index(line["name"]))
    ]
    return f"`{result['command']}`\n\n" + table(header, rows)


def main() -> int:
    """Trains line after line, writes JSON and the section of docs/benchmarks.md; goes on where it was stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(LINES))
    parser.add_argument("--data", help="dataset directory (default: the profile's)")
    parser.add_argument("--encoder", help="preset directory (default: the profile's)")
    parser.add_argument(
        "--work", type=Path, default=Path("work/ablation"), help="kept: what is transformed, encoded, trained"
    )
    options = parser.parse_args()
    file_name = options.name.replace("-", "_")
    work = options.work.absolute() / file_name
    work.mkdir(parents=True, exist_ok=True)
    trained, out = work / "trained.json", _RESULTS / f"ablation_{file_name}.json"
    given = {"data.dataset": options.data, "encoder.preset": options.encoder}
    base = {"paths.pipeline_root": str(work / "pipeline")} | {k: v for k, v in given.items() if v}
    profile = Path("benchmarks/profiles") / f"{file_name}.yaml"
    try:
        settings = load_settings(profile, base)
        uris = run_up_to(settings, "Transform")
        views = write_views(uris, settings, VIEWS_SHOWN[options.name], work)
        result: dict[str, Any] = {"command": f"python -m benchmarks.ablation {options.name}", "lines": []}
        if trained.exists():
            result = json.loads(trained.read_text(encoding="utf-8"))
        done = {line["name"] for line in result["lines"]}
        for line in LINES[options.name]:
            if line.name in done:
                continue
            made, values = train(line, load_settings(profile, base | line.settings), uris, views, work)
            made["changes"] = against_profile(values, line == LINES[options.name][0], work)
            result["lines"].append(made)
            print(result["lines"][-1], flush=True)
            for path in (trained, out):
                path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            write_section(f"ablation-{options.name}", report(options.name, result))
    except TandemError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
