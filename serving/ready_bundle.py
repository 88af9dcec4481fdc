"""Loads a bundle and lets it answer its own warm-up requests before anyone else's."""

from pathlib import Path

from serving.loaded_bundle import EXACT, LoadedBundle, load_bundle
from serving.manifest import BundleError
from serving.predict import models_refusals, read_question
from serving.request_inputs import Limits, RequestError
from serving.warmup import read_warmup_requests


def load_and_warm_up(directory: Path, limits: Limits) -> LoadedBundle:
    """Verifies and loads a bundle and replays its warm-up requests, each through ScaNN and exactly.

    Raises:
      BundleError: the bundle is damaged or does not answer its own warm-up requests.
    """
    bundle = load_bundle(directory)
    for number, request in enumerate(read_warmup_requests(str(directory))):
        try:
            question = read_question(bundle, request, limits)
            with models_refusals(question.signature):
                for signature in (question.signature, EXACT):
                    bundle.run(signature, question.inputs)
        except (RequestError, ValueError) as error:
            raise BundleError(
                f"{directory} does not answer its warm-up request {number}: {error}; push a bundle that does."
            ) from error
    return bundle
