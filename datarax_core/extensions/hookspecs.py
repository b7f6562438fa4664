"""The hooks that a plugin may implement: a function of the same name, marked `hookimpl`, with any of the arguments."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import pluggy

from datarax_core.config.models import SourceConfig
from datarax_core.errors import RecordError

if TYPE_CHECKING:
    from datarax_core.records.spec import Batch
    from datarax_core.sources.source import DataSourceModule


PROJECT: Final = "datarax"

hookspec = pluggy.HookspecMarker(PROJECT)

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks an implementation. ``@hookimpl(tryfirst=True)`` goes before others, ``@hookimpl(wrapper=True)`` around them."""


class Registrar(Protocol):
    """A registry that a hook plugin may add to: `datarax_core.SourceRegistry`."""

    def register(self, plugin: Any) -> Any:
        """Add a class."""


class Builder(Protocol):
    """What makes sources of configs: `datarax_core.build.SourceBuilder`."""

    def __call__(self, config: "SourceConfig") -> "DataSourceModule":
        """The source of a config, as the hooks make it."""

    def from_class(self, config: "SourceConfig") -> "DataSourceModule":
        """The source that the registered class makes of it."""


class ServingPipeline(Protocol):
    """What core's own parts ask of the pipeline that hooks are told of: `datarax_core.Pipeline`."""

    cursor: Any

    def stats(self) -> dict[str, Any]:
        """What was served."""

    def close(self) -> None:
        """End the run under way."""


class HookSpecs:
    """What is called when, with what, and what becomes of the result. Nothing is ever called for each record."""

    @hookspec(historic=True)
    def datarax_register_sources(self, registry: Registrar) -> None:
        """Add sources that no entry point declares; called once, as the plugin is loaded."""

    @hookspec(firstresult=True)
    def datarax_create_source(
        self, config: "SourceConfig", build: "Callable[[SourceConfig], DataSourceModule]"
    ) -> "DataSourceModule | None":
        """Make the source of a config, or leave it to others with None; ``build`` makes those that it nests.

        A wrapper of it stands around every source that a config describes, at every depth.
        """

    @hookspec
    def datarax_pipeline_opened(self, pipeline: ServingPipeline) -> None:
        """A loop begins, or the first `step` or `scan` since the pipeline was closed, before a record is read."""

    @hookspec
    def datarax_batch_ready(self, pipeline: ServingPipeline, step: int, batch: "Batch") -> None:
        """A batch is about to be handed over by a loop or `step`; ``step`` counts those of this pipeline from 0.

        The pipeline still stands before the batch: a state saved here begins with it. Under a trace, and in `scan`, which
        make no batch on the host, it is not called.
        """

    @hookspec
    def datarax_epoch_finished(self, pipeline: ServingPipeline, epoch: int, stats: dict[str, Any]) -> None:
        """Each record of an epoch was served and done with: the batch after it is asked for, or the run is over.

        ``epoch`` is the one that orders are drawn for, from 0, and ``stats`` is ``pipeline.stats()``.
        """

    @hookspec
    def datarax_pipeline_closed(self, pipeline: ServingPipeline) -> None:
        """The run is over: its loop ended, was closed or dropped, or the pipeline was reset, restored, closed or dropped.

        Once for each time that it was opened, and at the end of the process for those that still are.
        """

    @hookspec(firstresult=True)
    def datarax_record_failed(
        self, source: "DataSourceModule", index: int, error: "RecordError"
    ) -> Literal["raise", "substitute"] | None:
        """A record cannot be read, and the source is about to serve another in its place; once for each such record.

        ``"raise"`` has the error raised instead, ``"substitute"`` has nobody else asked, None leaves it to the others. It may
        come on any thread, also while compiled code waits: call no JAX here.
        """
