"""Metrics of runs: a JSON line for each epoch, for each record that cannot be read, and for the end of a run."""

import json
import os
import time
import warnings
from typing import Any, Final, Self

from datarax_core import DataSourceModule, RecordError, hookimpl
from datarax_core.extensions import ServingPipeline

VARIABLE: Final = "ACME_WATCH"
"""Environment variable with the path of the file that lines are added to."""


class Metrics:
    """Hooks that add lines to a file; without a path they do nothing.

    No hook is called for each batch: watching costs a line an epoch. Each line is written at once, to the end of the file, so
    that several processes may share one. A line that cannot be written is a warning: a full disk does not end a run.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path

    @classmethod
    def of_environment(cls) -> Self:
        """Return the metrics that the environment asks for."""
        return cls(os.environ.get(VARIABLE))

    @hookimpl
    def datarax_epoch_finished(self, pipeline: ServingPipeline, epoch: int, stats: dict[str, Any]) -> None:
        """Write what was served until the end of an epoch, and the seconds that the loop waited for it."""
        counts = {name: stats[name] for name in ("batches", "records", "records_substituted", "seconds_waiting")}
        self._write("epoch", pipeline.source, epoch=epoch, **counts)

    @hookimpl
    def datarax_pipeline_closed(self, pipeline: ServingPipeline) -> None:
        """Write where a run ended."""
        self._write("closed", pipeline.source, position=int(pipeline.cursor.position))

    @hookimpl
    def datarax_record_failed(self, source: DataSourceModule, index: int, error: RecordError) -> None:
        """Write which record is replaced, and why; whether it is replaced is left to others. Called on any thread."""
        self._write("failed", source, record=index, path=error.path, reason=error.reason)

    def _write(self, event: str, source: DataSourceModule, **facts: Any) -> None:
        if self._path is None:
            return
        line = {"event": event, "time": time.time(), "process": os.getpid(), "source": source.title, **facts}
        try:
            with open(self._path, "a", encoding="utf-8") as file:  # noqa: PTH123 - one call of the system writes the line
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            warnings.warn(f"{VARIABLE}: a line of metrics was lost: {error}", stacklevel=2)
