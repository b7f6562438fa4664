"""The ``__call__`` that a subclass of the pipeline writes, as the one stage of its compiled programs."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from flax import nnx

from .on_host.side import compiled_stages
from .randomness import RecordIds, takes_record_indices

_LEFT_OUT: Final = frozenset({"source", "cursor", "_progress", "_stage_keys", "_layout", "_part", "_host_specs"})


class CallOverride(nnx.Module):
    """Stage that calls a pipeline's own ``__call__`` with the batch.

    It holds the pipeline without source, position and readers: its attributes, variables included, are the pipeline's own, so
    that what ``__call__`` writes to variables is kept by every route. ``super().__call__`` applies the pipeline's stages, with
    the keys and the record indices of the batch under way.
    """

    takes_record_ids = True

    def __init__(self, pipeline: Any) -> None:
        view = object.__new__(type(pipeline))
        vars(view).update({name: value for name, value in vars(pipeline).items() if name not in _LEFT_OUT})
        if on_host := pipeline._host_specs.count:  # noqa: SLF001 - a view of it is made
            view.stages = nnx.List(compiled_stages(tuple(pipeline.stages), on_host))
        self.pipeline = view

    @property
    def name(self) -> str:
        """Name in errors and reports: ``Scaled.__call__``."""
        return f"{type(self.pipeline).__name__}.__call__"

    @property
    def takes_record_indices(self) -> bool:
        """Whether a stage of the pipeline takes record indices, and may keep records in a table."""
        return any(map(takes_record_indices, self.pipeline.stages))

    def __call__(self, batch: Any, record_ids: RecordIds | None) -> Any:
        """Return the pipeline's result for a batch whose records have these ids."""
        with _under_way(record_ids):
            try:
                return self.pipeline(batch)
            except AttributeError as error:
                if error.obj is self.pipeline and error.name in _LEFT_OUT:
                    raise AttributeError(
                        f"{self.name} reads self.{error.name}, which it cannot reach: it is compiled, and called with each "
                        "batch alone; keep what it needs of it in another attribute"
                    ) from error
                raise


class _UnderWay:
    """The ids of the records of the batch under way, and how often its stages were applied."""

    def __init__(self, record_ids: RecordIds | None) -> None:
        self.record_ids = record_ids
        self.times = 0


_batch: Final[ContextVar[_UnderWay | None]] = ContextVar("batch", default=None)


@contextmanager
def _under_way(record_ids: RecordIds | None) -> Iterator[None]:
    token = _batch.set(_UnderWay(record_ids))
    try:
        yield
    finally:
        _batch.reset(token)


def is_under_way() -> bool:
    """Return whether a `CallOverride` is called, inside of which stages are applied."""
    return _batch.get() is not None


def ids_under_way(num_stages: int) -> tuple[RecordIds | None, int]:
    """Return (the ids of the records of the batch that a `CallOverride` is called with, the number of the first stage).

    If ``super().__call__`` is called again for the same batch, such as for a second view of it, the numbers of its stages
    go on, so that random stages draw anew. Outside of a `CallOverride`: (None, 0).
    """
    batch = _batch.get()
    if batch is None:
        return None, 0
    first, batch.times = batch.times * num_stages, batch.times + 1
    return batch.record_ids, first
