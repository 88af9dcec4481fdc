"""Progress of a run: a line when a component starts and one when it ends; everything else goes to a file."""

import logging
import os
import time

from absl import logging as absl_logging
from rich.console import Console


class Progress(logging.Handler):
    """Turns LocalDagRunner's log lines into progress; everything else goes to a file."""

    def __init__(self, console: Console, total: int, log_file: str) -> None:
        super().__init__(logging.INFO)
        self.running = "the pipeline"
        self.log_file = log_file
        self._console = console
        self._total = total
        self._done = 0
        self._started = 0.0
        os.makedirs(os.path.dirname(log_file), exist_ok=True)
        self._file = logging.FileHandler(log_file, encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        self._saved: list[tuple[logging.Logger, list[logging.Handler], int]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Shows a line when a component starts and when it ends, and what Tandem's own loggers say."""
        if record.name.startswith("tandem"):
            self._console.print(f"        {record.getMessage()}", highlight=False)
        elif record.msg == "Component %s is running.":
            self.running, self._started = str(record.args[0]), time.monotonic()  # type: ignore[index]
            self._console.print(
                f"[{self._done + 1:2}/{self._total}] {self.running} ...", markup=False, highlight=False
            )
        elif record.msg == "Component %s is finished.":
            self._done += 1
            seconds = time.monotonic() - self._started
            self._console.print(f"        done in {seconds:.1f} s", highlight=False)

    def __enter__(self) -> "Progress":
        for name in (None, "absl", "tandem", "tensorflow"):
            logger = logging.getLogger(name)
            self._saved.append((logger, logger.handlers[:], logger.level))
            logger.handlers = [self._file] if name is None else [] if name == "tensorflow" else [self]
            logger.setLevel(logging.INFO)
        self._verbosity = absl_logging.get_verbosity()
        absl_logging.set_verbosity(
            absl_logging.INFO
        )  # absl sets its logger's level back to this now and then
        logging.captureWarnings(True)
        return self

    def __exit__(self, *exc: object) -> None:
        logging.captureWarnings(False)
        absl_logging.set_verbosity(self._verbosity)
        for logger, handlers, level in self._saved:
            logger.handlers = handlers
            logger.setLevel(level)
        self._file.close()
