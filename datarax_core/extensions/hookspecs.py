"""Hooks that a plugin may implement, and protocols for the objects that hooks are given.

An implementation is a function with the name of the hook, marked `hookimpl`, that takes any of the hook's arguments. The
protocols list the members of these arguments that a hook may use.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import pluggy

from datarax_core.config.models import SourceConfig
from datarax_core.errors import RecordError

if TYPE_CHECKING:  # hooks are loaded without JAX
    from datarax_core.records.spec import Batch
    from datarax_core.sources.source import DataSourceModule


PROJECT: Final = "datarax"
"""The name by which pluggy tells these hooks from those of other projects."""

hookspec = pluggy.HookspecMarker(PROJECT)
"""Marks the declaration of a hook, in `HookSpecs`; plugins need `hookimpl` only."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks an implementation. ``@hookimpl(tryfirst=True)`` goes before others, ``@hookimpl(wrapper=True)`` around them."""


class Registrar(Protocol):
    """Registry that a hook plugin may add sources to: a `SourceRegistry`."""

    def register(self, plugin: Any) -> Any:
        """Add a source class, named by the default of its config's ``type``, and return it; see `SourceRegistry.register`."""


class Builder(Protocol):
    """Maker of sources from configs, which `datarax_create_source` is given for nested configs."""

    def __call__(self, config: SourceConfig) -> "DataSourceModule":
        """Return the source of a config, made by the hooks and with random streams of its own."""

    def from_class(self, config: SourceConfig) -> "DataSourceModule":
        """Return the source that the registered class makes of a config. Calls no hook for ``config`` itself."""


class ServingPipeline(Protocol):
    """Pipeline that calls a hook: a `Pipeline`, of which a hook may rely on these members."""

    @property
    def source(self) -> "DataSourceModule":
        """The source that the pipeline serves; its ``title`` names it in messages."""

    cursor: Any
    """Where the pipeline stands: ``cursor.position`` is the position of the next record, counted over all epochs."""

    def stats(self) -> dict[str, Any]:
        """Return counts of the batches and records that were served; see `Pipeline.stats`."""

    def get_state(self) -> dict[str, Any]:
        """Return the state from which another pipeline of the same config goes on; see `Pipeline.get_state`."""

    def close(self) -> None:
        """End the run under way, with its thread and its worker processes; see `Pipeline.close`."""


class HookSpecs:
    """Hooks, with the time of each call, its arguments, and the effect of its result. No hook is called for each record."""

    @hookspec(historic=True)
    def datarax_register_sources(self, registry: Registrar) -> None:
        """Add sources that no entry point declares. Called once, when the plugin is loaded.

        Called: by `Hooks`, once for each plugin: when it is loaded, with the first pipeline or the first name that is not
            installed, or when it is registered; on that thread.
        Default: nothing is registered.
        """

    @hookspec(firstresult=True)
    def datarax_create_source(
        self, config: SourceConfig, build: "Callable[[SourceConfig], DataSourceModule]"
    ) -> "DataSourceModule | None":
        """Return the source of a config, or None to leave it to other plugins; ``build`` makes the sources nested in it.

        A wrapper of this hook is called around every source that a config describes, at every depth.

        Called: by `build_source`, `Pipeline.from_config` and the commands, for each config of a source, nested ones included;
            on the thread that builds.
        Default: the class behind the config's ``type`` makes the source.
        """

    @hookspec
    def datarax_pipeline_opened(self, pipeline: ServingPipeline) -> None:
        """Run when a loop begins, or the first `step` or `scan` since the pipeline was closed, before a record is read.

        Called: by pipelines, in the process that makes the batches, on the thread that uses the pipeline.
        Default: nothing.
        """

    @hookspec
    def datarax_batch_ready(self, pipeline: ServingPipeline, step: int, batch: "Batch") -> None:
        """Run when a loop or `step` is about to hand over a batch; ``step`` counts the batches of this pipeline from 0.

        The pipeline still stands before the batch: a state saved here begins with this batch. The hook is not called under a
        trace, nor in `scan`, since neither makes a batch on the host.

        Called: by pipelines, for each batch of a loop or `step`, in the process that makes the batches, on the thread that
            uses the pipeline; not on the one that reads ahead, and not in worker processes.
        Default: nothing, and costs less than 50 ns.
        """

    @hookspec
    def datarax_epoch_finished(self, pipeline: ServingPipeline, epoch: int, stats: dict[str, Any]) -> None:
        """Run when each record of an epoch was served and used: the next batch is asked for, or the run is over.

        ``epoch`` counts from 0 and is the epoch of the order; ``stats`` is ``pipeline.stats()``.

        Called: by pipelines, once for each epoch, in the process that makes the batches, on the thread that uses the
            pipeline.
        Default: nothing.
        """

    @hookspec
    def datarax_pipeline_closed(self, pipeline: ServingPipeline) -> None:
        """Run when the run is over: its loop ended, was closed or dropped, or the pipeline was reset, restored or closed.

        Called once for each `datarax_pipeline_opened`, and at the end of the process for pipelines that are still open.

        Called: by pipelines, in the process that makes the batches, on the thread that uses the pipeline; of a pipeline
            that was dropped, on the thread that frees it, and at the end of the process.
        Default: nothing.
        """

    @hookspec(firstresult=True)
    def datarax_record_failed(
        self, source: "DataSourceModule", index: int, error: RecordError
    ) -> Literal["raise", "substitute"] | None:
        """Decide about a record that cannot be read and that the source is about to replace; once for each such record.

        ``"raise"`` raises the error instead, ``"substitute"`` ends the search for an answer, None leaves it to other plugins.
        The hook may be called on any thread, also while compiled code waits for the host: it must not call JAX.

        Called: by sources that substitute records, on the thread that reads: any, worker processes of installed plugins
            included, and several at once.
        Default: the record is substituted, as its source's ``on_error`` says.
        """
