"""A small source, the hooks of a process without other plugins, and a run that calls every hook, with a note of each call."""

import contextlib
import gc
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final, Literal, NamedTuple, Self

import jax
import numpy as np
from flax import nnx

from datarax_core.config.models import SourceConfig
from datarax_core.errors import RecordError
from datarax_core.extensions.hooks import Hooks
from datarax_core.extensions.hookspecs import hookimpl
from datarax_core.extensions.implementations import HOOKS
from datarax_core.pipeline.build import build_source
from datarax_core.pipeline.pipeline import Pipeline
from datarax_core.records.dtypes import goes_to_device
from datarax_core.records.joining import host_column
from datarax_core.records.spec import Batch, ElementSpec, named_fields, spec_of
from datarax_core.registry.sources import SourceRegistry, default_hooks, record_failed
from datarax_core.sources.source import DataSourceModule

BATCH: Final = 4
"""The number of records of a batch."""

BAD_RECORD: Final = 3
"""The record that cannot be read, where one is to fail."""


RECORDS: Final = {"x": np.arange(10, dtype=np.float32), "name": np.array([f"record {n}" for n in range(10)], object)}
"""The records that are served if the author declares none."""

_SECONDS: Final = 3.0


class TinyConfig(SourceConfig):
    """Config of a source over the columns that a test declares; in Python only, since a config file holds no arrays."""

    type: Literal["tiny"] = "tiny"
    records: Any = None
    bad: tuple[int, ...] = ()


class TinySource(DataSourceModule):
    """Records of columns in memory, read on the host; some of them may be bad, and are replaced by the first."""

    config_class = TinyConfig
    config: TinyConfig

    @classmethod
    def from_config(cls, config: SourceConfig, build: Any) -> Self:
        """Return the source of a config."""
        return cls(config, rngs=build.rngs)

    def __len__(self) -> int:
        return len(next(iter(named_fields(self.config.records).values())))

    def element_spec(self) -> ElementSpec:
        """Return the spec of the columns."""
        return spec_of(self.config.records)

    def get_records(self, indices: Any) -> Batch:
        """Return rows of the columns; the hooks are asked about bad ones."""
        rows = np.asarray(indices, np.int64)
        for row in np.unique(rows[np.isin(rows, self.config.bad)]).tolist():
            record_failed(self, row, bad_record(row))
        rows = np.where(np.isin(rows, self.config.bad), 0, rows)
        return jax.tree.map(lambda column: column[rows], self.config.records)


def bad_record(row: int = BAD_RECORD) -> RecordError:
    """Return the error of a record that cannot be read."""
    return RecordError(
        f"record {row} cannot be read: its checksum is wrong", record=row, reason="its checksum is wrong"
    )


class Call(NamedTuple):
    """One call of a hook: its name, and what it was given, batches copied to the host."""

    hook: str
    given: Mapping[str, Any]


def witness(calls: list[Call], *, first: bool) -> object:
    """Return a hook plugin that notes every call in ``calls``, and is called before all others, or in its turn."""
    marked = hookimpl(tryfirst=first)

    @marked
    def datarax_create_source(config: Any) -> None:
        calls.append(Call("datarax_create_source", {"type": config.type}))

    @marked
    def datarax_pipeline_opened(pipeline: Any) -> None:
        calls.append(Call("datarax_pipeline_opened", {"position": pipeline.cursor.position}))

    @marked
    def datarax_batch_ready(pipeline: Any, step: int, batch: Any) -> None:
        given = {"position": pipeline.cursor.position, "step": step, "batch": on_host(batch)}
        calls.append(Call("datarax_batch_ready", given))

    @marked
    def datarax_epoch_finished(epoch: int, stats: Any) -> None:
        calls.append(Call("datarax_epoch_finished", {"epoch": epoch, "records": stats["records"]}))

    @marked
    def datarax_pipeline_closed(pipeline: Any) -> None:
        calls.append(Call("datarax_pipeline_closed", {"position": pipeline.cursor.position}))

    @marked
    def datarax_record_failed(index: int) -> None:
        calls.append(Call("datarax_record_failed", {"index": index}))

    own = locals()
    return SimpleNamespace(**{name: own[name] for name in HOOKS if name in own})


class ServedRun:
    """Pipelines that were served while a hook plugin was registered, and everything that its hooks were told.

    Attributes:
        calls: Each call of a hook, in order: its name, and what it was given, as plain values.
        batches: The batches that were served, by name: those of the "loop", of "steps", of the loop that is left by a "break",
            and of the "failing" one, over a record that cannot be read.
        source: The source that the registered class and the hooks made of a config.
        output: What was printed.
        registry: The registry to which the plugin added its sources.
        error: The error of the loop over a record that cannot be read; None if another took its place.
        records: The columns that are served.
    """

    def __init__(self, registry: SourceRegistry, records: Batch) -> None:
        self.registry = registry
        self.records = jax.tree.map(
            lambda column: column.copy(), records
        )  # a plugin that writes to them spoils this run only
        self.calls: list[Call] = []
        self.batches: dict[str, list[Batch]] = {}
        self.source: DataSourceModule | None = None
        self.output: str = ""
        self.error: RecordError | None = None

    def told(self, hook: str, name: str) -> list[Any]:
        """Return what each call of a hook was given as ``name``: ``run.told("datarax_epoch_finished", "epoch")``."""
        return [call.given[name] for call in self.calls if call.hook == hook]

    def build(self, config: Mapping[str, Any] | SourceConfig) -> DataSourceModule:
        """Return the source that the hooks and the registered class make of a config; see `build_source`."""
        return build_source(config, self.registry)

    def pipeline(
        self,
        records: Mapping[str, Any] | None = None,
        *,
        bad: Sequence[int] = (),
        batch_size: int = BATCH,
        **options: Any,
    ) -> Pipeline:
        """Return a new pipeline, which calls the hooks.

        Args:
            records: Columns, a row a record; None takes those of the test.
            bad: The records that cannot be read: `datarax_record_failed` is called, and the first record takes their place.
            batch_size: The number of records of a batch.
            **options: Those of `Pipeline`, such as ``num_epochs``.
        """
        columns = self.records if records is None else records
        source = self.build(TinyConfig(records=columns, bad=tuple(bad)))
        return Pipeline(source=source, batch_size=batch_size, rngs=nnx.Rngs(0), **options)

    def record_failed(self, index: int = BAD_RECORD) -> None:
        """Ask the hooks about a record that cannot be read, as a source does before it replaces one.

        Raises:
            RecordError: A hook answered "raise".
        """
        record_failed(self.build(TinyConfig(records=self.records)), index, bad_record(index))


class KitRun(ServedRun):
    """A run as the kit makes it, with what it compares.

    Attributes:
        hooks: The hooks of the process, in which the plugin is registered.
        heard_last: The calls that a plugin behind the one under test heard.
        states: States of the pipelines.
        scanned: The batches of a scan, stacked; None if no field goes to a device.
        before_failing: The number of calls, and of those heard last, before the loop over a record that cannot be read.
    """

    def __init__(self, hooks: Hooks, registry: SourceRegistry, records: Batch) -> None:
        super().__init__(registry, records)
        self.hooks = hooks
        self.heard_last: list[Call] = []
        self.states: list[Any] = []
        self.scanned: Any = None
        self.before_failing = 0, 0

    def compared_calls(self, other: "KitRun") -> tuple[list[Call], list[Call]]:
        """Return calls, and those heard last, that another run has too: not of a failing loop that a hook ended."""
        if self.error is None and other.error is None:
            return self.calls, self.heard_last
        return self.calls[: self.before_failing[0]], self.heard_last[: self.before_failing[1]]

    def serve(self) -> None:
        """Serve pipelines so that every hook is called: loops, steps, a scan, states, and a record that cannot be read."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            self._serve()
        self.output = printed.getvalue()

    def _serve(self) -> None:
        self.batches = {"loop": [], "steps": [], "break": []}
        pipeline = self.pipeline(num_epochs=2)
        self.source = pipeline.source
        self.batches["loop"] += [on_host(batch) for batch in pipeline]
        self.batches["steps"].append(on_host(pipeline.step()))
        state = pipeline.get_state()
        self.states.append(state)
        self.batches["steps"] += [on_host(pipeline.step()) for _ in range(2)]
        pipeline.set_state(state)
        self.batches["steps"].append(on_host(pipeline.step()))
        pipeline.reset()
        for batch in pipeline:
            self.batches["break"].append(on_host(batch))
            break
        self.states.append(pipeline.get_state())
        pipeline.close()
        if numbers := {name: column for name, column in self.records.items() if goes_to_device_whole(column)}:
            scanned = self.pipeline(numbers)
            self.scanned = on_host(scanned.scan(_same, length=3))
            scanned.close()
        self.before_failing = len(self.calls), len(self.heard_last)
        failing = self.pipeline(bad=[BAD_RECORD], prefetch=0)
        try:
            self.batches["failing"] = [on_host(batch) for batch in failing]
        except RecordError as error:
            self.error = error
        failing.close()


def _same(batch: Batch) -> Batch:
    return batch


def goes_to_device_whole(column: Any) -> bool:
    """Return whether all of a column, or of a dict of columns, is of dtypes that a device has."""
    return all(map(goes_to_device, jax.tree.leaves(column)))


def on_host(batch: Batch) -> Batch:
    """Return a batch with its columns copied to the host."""
    return jax.tree.map(lambda column: host_column(column).copy(), batch)


@contextlib.contextmanager
def hooks_alone(records: Batch, plugin: object | None = None, *, noted: bool = True) -> Iterator[KitRun]:
    """Register a plugin, with nothing beside it but two witnesses, for the time of a ``with`` block; None registers none.

    Pipelines of the block call these hooks, and no installed or registered plugin. Without ``noted`` there are no witnesses,
    which wait for batches and copy them.
    """
    with only_these_hooks() as (hooks, registry):
        run = KitRun(hooks, registry, records)
        if noted:
            # Registered before the plugin, and so called after it; with trylast, it would be called after core, which answers.
            hooks.register(witness(run.heard_last, first=False), "the last witness")
        if plugin is not None:
            hooks.register(plugin, "the plugin under test")
        if noted:
            hooks.register(witness(run.calls, first=True), "the first witness")
        yield run


@contextlib.contextmanager
def only_these_hooks() -> Iterator[tuple[Hooks, SourceRegistry]]:
    """Let the hooks of this process call none of the plugins that are installed or registered, for a ``with`` block."""
    hooks, registry = default_hooks(), SourceRegistry()
    registry.register(TinySource)
    fresh = Hooks(registry)
    fresh.load_installed(allow=[])
    kept = dict(vars(hooks))  # pipelines hold the object, and are to find the others in it
    vars(hooks).clear()
    vars(hooks).update(vars(fresh))
    try:
        yield hooks, registry
        hooks.close_pipelines()
    finally:
        vars(hooks).clear()
        vars(hooks).update(kept)


@contextlib.contextmanager
def objects_frozen() -> Iterator[None]:
    """Have garbage collections ignore all objects that exist: collections that look at JAX take longer than the test."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def settled(count: Callable[[], int], most: int = 0) -> int:
    """Return a count once it is at most ``most``, or after a few seconds: threads that read ahead end a little later."""
    until = time.monotonic() + _SECONDS
    while (found := count()) > most and time.monotonic() < until:
        time.sleep(0.05)
        gc.collect()
    return found
