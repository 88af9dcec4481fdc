"""Loads a bundle and lets it answer its own warm-up requests before anyone else's."""

from pathlib import Path

import numpy as np

from serving.background import AT_ONCE, Pace
from serving.engine import LoadEngine, load_here
from serving.inputs import no_value
from serving.loaded_bundle import EMBED_ITEM, LoadedBundle, load_bundle
from serving.manifest import BundleError
from serving.predict import models_refusals, read_question
from serving.request_inputs import Limits, RequestError
from serving.warmup import read_warmup_requests


def load_and_warm_up(
    directory: Path, limits: Limits, pace: Pace = AT_ONCE, load_engine: LoadEngine = load_here
) -> LoadedBundle:
    """Verifies and loads a bundle, replays its warm-up requests, and embeds an item as a changed catalogue will.

    Args:
      directory: the bundle.
      limits: what a warm-up request may ask.
      pace: how far this gives way to those who are being answered.
      load_engine: verifies the files, and loads what computes.

    Raises:
      BundleError: the bundle is damaged or does not answer its own warm-up requests.
    """
    bundle = load_bundle(directory, pace, load_engine)
    for number, request in enumerate(read_warmup_requests(str(directory))):
        try:
            question = read_question(bundle, request, limits)
            with models_refusals(question.signature):
                bundle.compute_first(question.signature, question.inputs)
                with pace.with_lock():  # what joins and merges holds it
                    bundle.run(question.signature, question.inputs)
        except (RequestError, ValueError) as error:
            raise BundleError(
                f"{directory} does not answer its warm-up request {number}: {error}; push a bundle that does."
            ) from error
    specs = bundle.specs[EMBED_ITEM]
    nothing = {
        n: np.full([1] * (s.shape.rank or 0), no_value(s.dtype), s.dtype.as_numpy_dtype)
        for n, s in specs.items()
    }
    bundle.compute_first(EMBED_ITEM, nothing)
    return bundle
