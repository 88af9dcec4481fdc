"""What is due: the spans that the newest push has not learnt. Nothing here looks at a clock."""

import os

from pipeline.settings import Settings
from serving.bundle import BundleError, newest_version, read_manifest
from transform.dataset import describe_spans, spans
from transform.errors import TandemError

_WAYS_OUT = (
    "Restore it from a copy, take its directory out of the push directory to go on from the one before, or train"
    " anew with 'tandem run --from-scratch'."
)


class NothingDue(TandemError):
    """Every span there is has been learnt."""

    exit_status = 0


def spans_due(settings: Settings, span: int = -1) -> list[int]:
    """Spans that have come since the newest push, late ones among them.

    A span older than all that the push has learnt lies before its window and never becomes due.

    Args:
      settings: the profile.
      span: newest span to look at, -1 for the newest there is.

    Returns:
      Span numbers, ascending, at least one.

    Raises:
      NothingDue: all of them are in the newest push.
      TandemError: there is no dataset, or the newest push is damaged.
    """
    there = [number for number in spans(settings.data.dataset) if span == -1 or number <= span]
    push_dir = settings.paths.push_dir
    try:
        version = newest_version(push_dir)
        if not version:
            return there
        known = read_manifest(os.path.join(push_dir, str(version))).spans
    except BundleError as error:
        raise cannot_go_on(str(error)) from error
    due = [number for number in there if number not in known and number > min(known, default=-1)]
    if there and not due:
        raise NothingDue(
            f"nothing to do: version {version} has learnt span {describe_spans(there[-1:])}, the newest"
            f" {'there is' if span == -1 else 'that was asked for'}, and all before it."
        )
    return due


def cannot_go_on(received: str) -> TandemError:
    """The refusal to start from a push that is not whole: what was found, and the ways out."""
    found = received.split(": push", 1)[0].split(": restore", 1)[0].rstrip(".")
    return TandemError(f"the previous push cannot be gone on from: {found}. {_WAYS_OUT}")
