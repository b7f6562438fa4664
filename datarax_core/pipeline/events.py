"""Events of a pipeline: announced to hook plugins, each once."""

from typing import Any

from datarax_core.extensions.hookspecs import ServingPipeline
from datarax_core.registry.sources import default_hooks


class Events:
    """The hook calls of one pipeline, each made once. Outside of every graph; it holds no pipeline.

    Args:
        epoch_length: Records in an epoch; None for a stream without a length.
    """

    # `Pipeline.__del__` runs code of this class, perhaps while the interpreter clears modules: it uses no module global.
    _closed = -1
    _never = 1 << 200

    def __init__(self, epoch_length: int | None) -> None:
        self.hooks = default_hooks()
        self.due = self._closed
        """The position from which on there is an event to announce: any, for a pipeline that is closed."""
        self._epoch_length = epoch_length
        self._epochs_announced = 0
        self._epochs_due = 0  # of a stream without a length: epochs that have ended
        self._owner = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _copy_of, (self._epoch_length,)

    @property
    def is_open(self) -> bool:
        """Whether the pipeline was opened, and not closed since."""
        return self.due != self._closed

    def catch_up(self, pipeline: ServingPipeline, position: int) -> None:
        """Open the pipeline, if it is closed, and announce the epochs that were served before ``position``."""
        if not self.is_open:
            self._owner = id(pipeline)
            self.hooks.open_pipelines[id(pipeline)] = pipeline
            self.due = self._next_end
            self.hooks.call.datarax_pipeline_opened(pipeline=pipeline)
        if position >= self._next_end:
            self._announce_epochs(pipeline, position // self._epoch_length if self._epoch_length else self._epochs_due)

    def note_epochs(self, ended: int) -> None:
        """Note that ``ended`` epochs of a stream without a length have ended; they are announced with the next batch."""
        if ended > self._epochs_due:
            self._epochs_due = ended
            if self.is_open:
                self.due = self._next_end

    def end_epochs(self, pipeline: ServingPipeline, ended: int) -> None:
        """Announce that ``ended`` epochs of a stream without a length have ended, those that were not announced before."""
        if self._epoch_length is None and ended > self._epochs_announced:
            self._epochs_due = max(ended, self._epochs_due)
            self._announce_epochs(pipeline, ended)

    def close(self, pipeline: ServingPipeline, position: int) -> None:
        """Announce the epochs that were served before ``position``, and close the pipeline, if it is open."""
        if self.is_open or position >= self._next_end:
            self.catch_up(pipeline, position)
            self.due = self._closed
            self.hooks.open_pipelines.pop(id(pipeline), None)
            self.hooks.call.datarax_pipeline_closed(pipeline=pipeline)

    def is_open_for(self, pipeline: ServingPipeline) -> bool:
        """Return whether this pipeline was opened, and not one of the copies that compiled code makes."""
        return self.is_open and self._owner == id(pipeline)

    def stand_at(self, position: int, *, epochs: int) -> None:
        """Go on from ``position``, as if all epochs before it had been announced: ``epochs`` of a stream without a length."""
        self._epochs_announced = position // self._epoch_length if self._epoch_length else epochs
        self._epochs_due = epochs
        if self.is_open:
            self.due = self._next_end

    def _announce_epochs(self, pipeline: ServingPipeline, ended: int) -> None:
        """Announce each of the first ``ended`` epochs that was not announced yet."""
        if not self.hooks.hears("datarax_epoch_finished"):
            self._epochs_announced = ended
        while self._epochs_announced < ended:
            epoch = self._epochs_announced
            self._epochs_announced += 1  # before the call: once, whatever the hook does
            self.hooks.call.datarax_epoch_finished(pipeline=pipeline, epoch=epoch, stats=pipeline.stats())
        self.due = self._next_end

    @property
    def _next_end(self) -> int:
        if self._epoch_length:
            return (self._epochs_announced + 1) * self._epoch_length
        return 0 if self._epochs_due > self._epochs_announced else self._never


def _copy_of(epoch_length: int | None) -> Events:
    """Return the events of an unpickled or copied pipeline; pickles name this function."""
    return Events(epoch_length)
