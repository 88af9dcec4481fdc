"""One of the processes that train a model together: runs the Trainer's job from a file, as TF_CONFIG places it.

python -m towers.worker JOB.json
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transform.errors import TandemError
from transform.runtime import prepare_environment

if TYPE_CHECKING:
    from towers.job import Job

logger = logging.getLogger("tandem.train")

WORKER_LOST = 138


def write_job(path: str | Path, job: "Job") -> None:
    """Writes a job for `read_job`; the path is complete or not there."""
    values = {
        name: value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        for name, value in job._asdict().items()
    }
    path = Path(path)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    unfinished.rename(path)


def read_job(path: str | Path) -> "Job":
    """Reads a job.

    Raises:
      TandemError: the file is missing, or is none that `write_job` wrote.
    """
    from towers.job import Job

    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        for name, kind in Job.__annotations__.items():
            if hasattr(kind, "model_validate"):
                values[name] = kind.model_validate(values[name])
        return Job(**values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TandemError(
            f"{path}: no training job ({str(error).splitlines()[0]}), expected what the Trainer of this release wrote."
        ) from None


def main(words: Sequence[str]) -> int:
    """Trains.

    Args:
      words: after `python -m towers.worker`.

    Returns:
      0 trained, or done before; 2 something to mend, in one line on stderr; 138 another worker was lost: start this one
      again, it goes on from the last checkpoint. Kubeflow's training operator does so from 128 on.
    """
    parser = argparse.ArgumentParser(
        prog="python -m towers.worker", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("job", metavar="JOB.json")
    options = parser.parse_args(words)
    prepare_environment()
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logger.setLevel(logging.INFO)
    import tensorflow as tf

    from towers.job import is_trained
    from towers.trainer import train

    try:
        job = read_job(options.job)
        if is_trained(job):
            logger.info("trained before")
            return 0
        train(job)
    except TandemError as error:
        print(f"tandem: {error}", file=sys.stderr)
        return 2
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.FailedPreconditionError,
        tf.errors.InternalError,
    ) as error:
        # What collective operations and TensorFlow's heartbeats say when the other side is gone, or has come back as another.
        print(f"tandem: another worker was lost: {str(error).splitlines()[0]}", file=sys.stderr)
        return WORKER_LOST
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
