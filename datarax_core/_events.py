"""What one pipeline tells the hooks: that a run begins, how far it is, and that it is over."""

from typing import TYPE_CHECKING, Any, Final

from .hooks import default_hooks

if TYPE_CHECKING:
    from .pipeline import Pipeline

_CLOSED: Final = -1
_NEVER: Final = 1 << 200


class Events:
    """Counts what was told, so that each thing is told once. Outside of every graph; it holds no pipeline.

    Args:
        epoch_length: Records in an epoch; None for a stream without a length.
        is_copy: Whether the pipeline is a copy of another, which tells the epochs before the place where it is opened.
    """

    def __init__(self, epoch_length: int | None, *, is_copy: bool = False) -> None:
        self.hooks = default_hooks()
        self.due = _CLOSED
        """The position from which on there is something to tell: any, for a pipeline that is closed."""
        self._epoch_length = epoch_length
        self._is_copy = is_copy
        self._told = 0
        self._ended_at = 0
        self._owner = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _copy_of, (self._epoch_length,)

    @property
    def is_open(self) -> bool:
        """Whether the pipeline was opened, and not closed since."""
        return self.due != _CLOSED

    def catch_up(self, pipeline: "Pipeline", position: int) -> None:
        """Open the pipeline, if it is closed, and tell the epochs that were served before ``position``."""
        if self._is_copy:
            self.stand_at(position)
        if not self.is_open:
            self._owner = id(pipeline)
            self.hooks.open_pipelines[id(pipeline)] = pipeline
            self.due = self._next_end
            self.hooks.call.datarax_pipeline_opened(pipeline=pipeline)
        if self._epoch_length and position >= self._next_end:
            self._tell_epochs(pipeline, position // self._epoch_length)

    def end_stream(self, pipeline: "Pipeline", position: int) -> None:
        """Tell the end of a stream without a length as that of an epoch, if it was not told yet."""
        if self._epoch_length is None and position > self._ended_at:
            self._ended_at = position
            self._tell_epochs(pipeline, self._told + 1)

    def close(self, pipeline: "Pipeline", position: int) -> None:
        """Tell the epochs that were served before ``position``, and close the pipeline, if it is open."""
        if self.is_open or (not self._is_copy and position >= self._next_end):
            self.catch_up(pipeline, position)
            self.due = _CLOSED
            self.hooks.open_pipelines.pop(id(pipeline), None)
            self.hooks.call.datarax_pipeline_closed(pipeline=pipeline)

    def drop(self, pipeline: "Pipeline") -> None:
        """Close a pipeline that nobody holds any more, unless it is one of the copies that compiled code makes."""
        if self.is_open and self._owner == id(pipeline):
            self.close(pipeline, pipeline.cursor.position)

    def stand_at(self, position: int) -> None:
        """Go on from ``position``, as if all epochs before it had been told."""
        if self._epoch_length:
            self._told = position // self._epoch_length
        elif not position:
            self._told = 0
        self._is_copy, self._ended_at = False, position
        if self.is_open:
            self.due = self._next_end

    def _tell_epochs(self, pipeline: "Pipeline", ended: int) -> None:
        """Tell each of the first ``ended`` epochs that was not told yet."""
        if not self.hooks.hears("datarax_epoch_finished"):
            self._told = ended
        while self._told < ended:
            epoch, self._told = self._told, self._told + 1  # first: once, whatever the hook does
            self.hooks.call.datarax_epoch_finished(pipeline=pipeline, epoch=epoch, stats=pipeline.stats())
        self.due = self._next_end

    @property
    def _next_end(self) -> int:
        return (self._told + 1) * self._epoch_length if self._epoch_length else _NEVER


def _copy_of(epoch_length: int | None) -> Events:
    return Events(epoch_length, is_copy=True)
