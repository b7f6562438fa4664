"""The pipeline: batches of a source's records, through stages. The stream is a pure function of config, seed and position."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from time import perf_counter
from typing import Any, Self
from weakref import ref

import jax
import jax.numpy as jnp
from flax import nnx
from flax.errors import TraceContextError

from datarax_core.devices.aside import Aside
from datarax_core.devices.layout import layout_of
from datarax_core.devices.traces import TraceArgument, closed_over, require_updates_kept
from datarax_core.modules.cursor import Cursor
from datarax_core.modules.fingerprints import Names, noted
from datarax_core.modules.host_state import renew_host_states
from datarax_core.modules.module import checked_rngs
from datarax_core.modules.shown import Shown
from datarax_core.modules.state import variable_state
from datarax_core.moved import rename_attributes
from datarax_core.order.batch_sizes import BatchSizes
from datarax_core.order.numbers import Auto, number_or_auto, whole_number
from datarax_core.records.narrowing import narrow
from datarax_core.records.spec import (
    Batch,
    ElementSpec,
    host_fields_after,
    split_host_fields,
    with_host_fields,
)
from datarax_core.registry.pipeline_config import PipelineConfig, load_config, parse_config
from datarax_core.registry.sources import SourceRegistry, default_hooks
from datarax_core.routes.base import Route
from datarax_core.routes.definition import (
    BatchRule,
    Definition,
    first_records,
    require_batches,
    require_sizes_outside,
    require_source,
)
from datarax_core.routes.table import route_class, route_of
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.apply import apply_stages, require_stages
from datarax_core.stages.build import build_stages
from datarax_core.stages.cache import check_record_stages, renew_caches
from datarax_core.stages.call import CallOverride, ids_under_way, is_under_way
from datarax_core.stages.graph import Graph
from datarax_core.stages.on_host.reader import HostSpecs, StagedReader
from datarax_core.stages.on_host.side import compiled_stages
from datarax_core.stages.randomness import StageKeys

from .build import build_source_of, placing_stages_of, require_batch_size
from .explain import explain, plan_of, stats_of, summary
from .loop import BatchIterator
from .multihost import agreed_on_all, facts_to_agree_on, require_on_all
from .places import batch_at, place_of, start_of_run_at
from .progress import Progress
from .scan import ScanInParts
from .served_spec import require_free_mask, require_stages_take_sizes, served_spec


class Pipeline(Shown, TraceArgument):
    """Batches of a source's records, through stages, in the source's order.

    Iteration, `step` and `scan` serve the same records in the same order, from one position, which all of them move. A loop
    serves ``num_epochs`` epochs, and its last batch may be short. `step` and `scan` go on from epoch to epoch.

    Args:
        source: The records and their order.
        stages: Callables ``batch -> batch``, which run compiled; the first of them, with the attribute ``on_host = True``, on
            the host, where records are read, on NumPy and ragged columns. A stage with the attribute ``stochastic = True`` is
            called with ``(batch, keys)``: one key a record, folded from stage, epoch and record index; on the host, with a
            ``np.random.Generator`` a record. A stage with the attribute ``takes_record_indices = True`` is called with the
            records' indices, int32 (k,), as its last argument; on the host, int64. An ``nnx.Module`` may hold parameters and
            statistics: values that it writes to its variables are kept. The pipeline calls `Stage.build` of a `Stage`, and
            runs the result.
        batch_size: Number of records in a batch; or a schedule, pairs of (position, number) such as
            ``[[0, 256], [1_000_000, 512]]``: positions count records, and a batch that begins before a border keeps its size.
            Each size is compiled once. None for a source that decides the sizes of its batches itself.
        rngs: Random streams of the pipeline; saved with its state.
        num_epochs: Number of epochs in a loop; None is endless.
        drop_last: Leave out a last batch that is not full.
        pad_last: Complete the last batch by repeating its last record, and add a boolean field of this name to every
            batch, true for real records.
        prefetch: Number of batches that a loop reads ahead on a thread, if the host reads the records; 0 reads none ahead.
            "auto" reads ahead as many as fit 256 MiB, or a tenth of the free memory if that is less. For a source on the
            device nothing is read ahead: its steps are compiled, and dispatched without waiting. If the device is a CPU and
            there are no stages, a thread copies batches ahead, of small ones a few more.
        threads: Number of threads that read records of a source on the host, parts of a batch and batches ahead at once.
            "auto" begins with one, and adds threads where reading waits, as long as they pay. 1 for a source that is not
            ``thread_safe``.
        workers: Number of processes that read a source on the host; 0 reads in this process. They are of use if decoding is
            Python code that keeps one core busy. They start with the first batch, each with a copy of the source, which must
            pickle.
        sharding: The layout of batches on devices: a ``jax.sharding.NamedSharding`` whose spec has an entry for each
            dimension of a whole field (a field of fewer dimensions uses the first entries), or a ``SingleDeviceSharding``;
            None is the default device. Over devices of several processes, each process builds an equal pipeline and reads
            the rows that its devices hold.

    Raises:
        TypeError, ValueError: An argument cannot work; the message names it.
    """

    _progress = Aside[Progress]()

    _host_specs = HostSpecs()
    """The element specs of the host stages, and their number, 0 in pickles of earlier versions."""

    def __init__(
        self,
        *,
        source: DataSourceModule,
        stages: Sequence[Callable[[Batch], Batch]] = (),
        batch_size: int | Sequence[Sequence[int]] | None = None,
        rngs: nnx.Rngs | None = None,
        num_epochs: int | None = 1,
        drop_last: bool = False,
        pad_last: str | None = None,
        prefetch: int | Auto = "auto",
        threads: int | Auto = "auto",
        workers: int = 0,
        sharding: jax.sharding.Sharding | None = None,
    ) -> None:
        default_hooks().load_installed()
        require_source(source)
        require_stages(stages)
        self.rule = BatchRule(batch_size, num_epochs, drop_last, pad_last)
        self.rngs = checked_rngs(rngs, "a pipeline")
        size = self.rule.over(source).sizes.distinct[0]
        stages, self._host_specs = build_stages(stages, source, self.rngs, batch_size=size, mask_field=pad_last)
        check_record_stages(stages, source)
        self._layout = layout_of(sharding)
        self.source, self._part = route_class(source, self._host_specs.count).part_of(source, self._layout)
        self.stages = nnx.List(stages)
        self.prefetch = number_or_auto("prefetch", prefetch, at_least=0, hint="bounded by bytes")
        self.threads = number_or_auto("threads", threads, at_least=1, hint="as many as pay where reading waits")
        self.workers = whole_number("workers", workers, at_least=0)
        self.cursor = Cursor()
        self._stage_keys = StageKeys(stages, self.rngs, self._host_specs.count)
        definition = self._definition(self._new_reader() if self._host_specs.count else self.source)
        self._progress = Progress.of(definition)
        self._progress.own(self)
        facts = facts_to_agree_on(source, stages, sharding)
        facts |= {"call": type(self).__call__.__qualname__, "num_epochs": num_epochs, "epoch": definition.epoch_length}
        if self._layout.num_processes > 1:  # the fingerprint costs a few reads of the data
            require_on_all(lambda: facts | source.fingerprint() | definition.rule_fingerprint(), self._layout)
        batch_size = definition.rule.fingerprint()["batch_size"]
        self.cursor.describe(batch_size, definition.epoch_length, definition.checksum())
        if self._progress.stream is not None:
            self.cursor.stream = self.source.title
        route_of(definition).require_workers(definition)
        route_of(definition).require_threads(definition)
        require_batches(definition)
        if pad_last is not None and definition.call is None:
            require_free_mask(definition)
        require_stages_take_sizes(definition)

    @classmethod
    def from_config(
        cls,
        config: str | PathLike[str] | Mapping[str, Any] | PipelineConfig,
        registry: SourceRegistry | None = None,
        *,
        stages: Sequence[Callable[[Batch], Batch]] = (),
        sharding: jax.sharding.Sharding | None = None,
    ) -> Self:
        """Build the pipeline that a file (YAML, TOML, JSON) or mapping describes.

        Args:
            config: Path of the file, the mapping, or a config that was parsed before.
            registry: Where names of sources are looked up; None is the registry of installed plugins.
            stages: Stages made in Python, which run after the config's.
            sharding: The layout of batches on devices, as in the constructor.

        Raises:
            ConfigError: The config is invalid, its source refuses it, or a stage of it cannot work on the records; names every
                problem with its place.
            PluginError: The source that the config names cannot be used; the subclass says why.
        """
        default_hooks().load_installed()  # a hook plugin may register the source
        if isinstance(config, Mapping):
            config = parse_config(config, registry=registry)
        elif not isinstance(config, PipelineConfig):
            config = load_config(config, registry)
        require_stages(stages)
        options = config.model_dump(
            include={"batch_size", "num_epochs", "drop_last", "pad_last", "prefetch", "threads", "workers"}
        )
        source, rngs = build_source_of(config, registry), nnx.Rngs(config.seed)
        require_batch_size(config, source)
        with placing_stages_of(config):
            return cls(source=source, stages=[*config.stages, *stages], rngs=rngs, sharding=sharding, **options)

    @classmethod
    def from_dag(
        cls,
        *,
        source: DataSourceModule,
        nodes: Mapping[str, Callable[..., Any]],
        edges: Iterable[tuple[str, str]],
        sink: str,
        **options: Any,
    ) -> Self:
        """Build a pipeline whose one stage is a `Graph`; ``options`` are the other arguments of the constructor.

        Raises:
            ValueError: The graph cannot work; see `Graph`.
        """
        return cls(source=source, stages=[Graph(nodes=nodes, edges=edges, sink=sink)], **options)

    # -- batches --------------------------------------------------------------------------------------------------------

    def __iter__(self) -> BatchIterator:
        """Return a loop over one run: ``num_epochs`` epochs of batches.

        The first loop goes on from the position of `step`, `scan` or a restored state, to the end of that run. Every further
        loop is a run of its own, from the first epoch of which no record was served. A loop raises `RuntimeError` once
        another loop, `set_state` or `reset` has moved the pipeline.
        """
        self._require_no_trace("iterate")
        self._progress.require_own_process()
        definition, progress = self._definition(), self._own_progress()
        try:
            run = progress.begin_run(self, definition)
        except TraceContextError as cause:
            raise closed_over(cause, self.cursor, f"the pipeline over {self.source.title}", "iterate") from None
        loop = BatchIterator(self, definition, progress, self._make_route(is_loop=True), run)
        progress.loop = ref(loop)
        return loop

    @property
    def batch_sizes(self) -> BatchSizes:
        """The sizes of batches by position, with closed forms from positions to numbers of batches and back."""
        return self._definition().rule.sizes

    def __len__(self) -> int:
        """Return the number of batches in one run: where sizes change, in the one under way or the next.

        Raises:
            TypeError: The pipeline is endless, or its source is a stream without a length.
        """
        definition = self._definition()
        if definition.epoch_length is None:
            raise TypeError(f"a pipeline over {self.source.title} has no length: it is a stream without one")
        start = 0 if type(self.rule.batch_size) is int else self._progress.start_of_run(self, definition)
        batches = definition.rule.num_batches(definition.epoch_length, start)
        if batches is None:
            raise TypeError("an endless pipeline (num_epochs=None) has no length")
        return batches

    def step(self) -> Batch:
        """Return the next batch, always a full one: at the end of an epoch it goes on with the first records of the next.

        Only the last batch of a stream that cannot start over may be short.

        Traceable: under ``nnx.jit``, with the pipeline as an argument, the position moves as any variable does. The cost does
        not depend on the size of the data.

        Threads take turns: each batch goes to one of them.

        Raises:
            NotImplementedError: A stream without a length has ended, and cannot start over.
            RuntimeError: The pipeline is closed over by a traced function, or an argument of plain ``jax.jit``, which would
                serve the same batch in every call.
        """
        if self.cursor.is_traced:
            require_updates_kept(self, f"the pipeline over {self.source.title}", "step()")
            require_sizes_outside(self.rule, self.source)
            definition = self._definition()
            batch = route_of(definition).traced_batch(definition, self.cursor)
            self.cursor.advance(definition.rule.batch_size)
            return batch
        self._progress.require_own_process()
        progress = self._own_progress()
        with progress.lock:
            try:
                return self._next_full_batch(progress, perf_counter())
            except TraceContextError as cause:
                raise closed_over(cause, self.cursor, f"the pipeline over {self.source.title}", "step") from None

    def _next_full_batch(self, progress: Progress, began: float) -> Batch:
        size, position = self.rule.batch_size, self.cursor.position
        if type(size) is not int:
            size = (self.source.batch_sizes or size).at(position)
        if position >= progress.events.due:
            progress.catch_up(self)
        route = progress.step_route
        if route is None or not route.serves(self.source, tuple(self.stages), self._reader()):
            route = progress.step_route = self._make_route(is_loop=False)
        try:
            prepared = route.prepare((position, size, route.version()))
            if prepared.size < size and self.rule.drop_last:  # the last of a stream that cannot start over
                progress.move_past(self, position, prepared)
                self.source.require_restart()
            return progress.hand_over(self, route.finish(prepared), position, prepared, began)
        except StopIteration as error:  # a caller's own loop would end on it
            raise RuntimeError("a source, stage or hook raised StopIteration while a batch was made") from error

    def scan(
        self, step_fn: Callable[..., Any], *, length: int, modules: Sequence[Any] = (), init_carry: Any = None
    ) -> Any:
        """Run ``step_fn`` over the next ``length`` full batches in one compiled program.

        Args:
            step_fn: ``step_fn(*modules, batch) -> out``, or with ``init_carry``, ``step_fn(carry, *modules, batch) ->
                (carry, out)``. It is compiled once for the same function and shapes.
            length: Number of batches.
            modules: ``nnx`` modules that the step reads and writes; every variable that it writes is kept.
            init_carry: First carry.

        Returns:
            The outputs, stacked; with ``init_carry`` (last carry, outputs).
        """
        self._require_no_trace("scan")
        self._progress.require_own_process()
        progress = self._own_progress()
        definition = self._definition()
        scan = ScanInParts(definition, progress.programs)
        length = whole_number("length", length, at_least=1)
        with progress.lock:
            try:
                start = progress.catch_up(self)
                result = scan(step_fn, length=length, modules=modules, init_carry=init_carry, start=start)
                self.cursor.move(definition.rule.sizes.position_after(start, length))
            except TraceContextError as cause:
                raise closed_over(cause, self.cursor, f"the pipeline over {self.source.title}", "scan") from None
            self.source.note_served(length)
            progress.catch_up(self)
        return result

    def __call__(self, batch: Batch) -> Batch:
        """Return the result of the stages for a batch of your own; for stages that take neither keys nor record indices.

        A subclass may override this: every route then serves its result in place of the stages', and keeps what it writes to
        variables of the pipeline. ``super().__call__(batch)`` applies the stages, also those that take keys or record indices,
        to a batch whose rows are the records that came in. The source is out of reach there: the call is compiled.
        """
        record_ids, first = ids_under_way(len(self.stages))
        if not self._host_specs.count:
            return apply_stages(self.stages, batch, record_ids, first=first)
        stages = compiled_stages(tuple(self.stages), self._host_specs.count)
        if is_under_way():  # the host stages were called where the records were read
            return apply_stages(stages, batch, record_ids, first=first)
        batch, host_fields = split_host_fields(self._new_reader().called_with(batch))
        made = apply_stages(stages, narrow(batch), None)
        return with_host_fields(made, host_fields_after(stages, host_fields)) if host_fields else made

    def element_spec(self) -> ElementSpec:
        """Return the element spec of a served batch's records; stages are traced, no record is read."""
        return served_spec(self._definition())

    # -- copies and states ----------------------------------------------------------------------------------------------

    def clone(self) -> Self:
        """Return an independent twin: its own position, variables and random streams; data that never changes is shared."""
        self._own_progress()
        twin = nnx.clone(self)
        twin._separate()  # noqa: SLF001 - of this class
        return twin

    def reset(self) -> None:
        """Return to the first position; variables of stages stay as they are, and random streams go on."""
        progress = self._progress
        if not self.cursor.is_traced:
            progress = self._own_progress(is_moved=True)
            progress.end_run(self, self.cursor.last_position)
        if progress.stream is not None:
            progress.stream.rewind(0)
        progress.stand_at(self, 0, 0)
        self.cursor.forget_changes()

    def seek(self, *, step: int | None = None, position: int | None = None, epoch: int | None = None) -> None:
        """Go to a place: the next batch is the one there. On several processes, all of them call it.

        As after `set_state`, the next loop goes on with the run that the place lies in, where runs of ``num_epochs`` epochs
        follow one another from position 0. Random streams and variables of stages stay as they are.

        Args:
            step: Number of a batch, of the full batches from position 0 on that `step` serves. A loop whose last batch is short
                cuts the next epoch anew: find its batches by position or epoch.
            position: Number of records before it. With one batch size any; where sizes change, the beginning of a batch.
            epoch: Number of an epoch, whose first record it is.

        Raises:
            TypeError: None, or more than one of them is given, or it is no integer.
            ValueError: There is no such place; of a position in the middle of a batch, names the two nearest.
            NotImplementedError: The source is a stream, which is read forward only.
        """
        self._require_no_trace("seek a place of", "call it between batches", also_closed_over=True)
        definition, progress = self._definition(), self._own_progress(is_moved=True)

        at = agreed_on_all(
            lambda: place_of(definition, "seek", step=step, position=position, epoch=epoch),
            lambda place: {"position": place},
            self._layout,
        )
        progress.end_run(self, self.cursor.last_position)
        progress.stand_at(self, at, start_of_run_at(definition, at))

    def batch_at(self, step: int | None = None, *, position: int | None = None) -> Batch:
        """Return the batch that `step` serves as number ``step``, or at a position, and move nothing: to look at it.

        It goes through the stages as they are now; what they write to variables is dropped, and no batch is counted or
        announced. This thread reads it, at the cost of a step.

        Args:
            step: Number of a batch, as in `seek`.
            position: Number of records before it, as in `seek`.

        Raises:
            TypeError, ValueError, NotImplementedError: As `seek`.
        """
        self._require_no_trace("look at a batch of", "call it between batches", also_closed_over=True)
        definition, progress = self._definition(), self._own_progress()
        progress.require_own_process()
        at = place_of(definition, "batch_at", step=step, position=position)
        with progress.lock:
            return batch_at(definition, progress.programs, at)

    def close(self) -> None:
        """End the run under way, its loop, its threads, and the worker processes.

        Nothing is lost: the next batch is the one that would have been served, and the next loop goes on with the run.
        """
        self._require_no_trace("close")
        progress = self._own_progress()
        loop = None if progress.loop is None else progress.loop()
        if loop is not None:
            loop.close()
        progress.end_run(self, self.cursor.position)
        self.cursor.restore(self.cursor.position, self.cursor.run_start)
        progress.close(self)

    def get_state(self) -> dict[str, Any]:
        """Return the state of the stream: JSON-able, about a kilobyte, no data. Valid between any two batches, on any process.

        For a source that is read forward only, it includes the state of the source after the batch that was served last.
        Parameters and statistics of stages are not in it: save ``nnx.state(pipeline.stages)`` with your model.

        Raises:
            RuntimeError: Compiled code calls it, as it is traced: it would get the state of that moment for ever.
        """
        self._progress.require_own_process()
        self._require_no_trace("get the state of", "call it between batches", also_closed_over=True)
        stream = self._own_progress().stream
        return {
            "position": self.cursor.position,
            "run_start": self.cursor.run_start,
            "in_loop": self.cursor.in_loop,
            "rngs": variable_state(self, nnx.RngState),
            "fingerprint": self._definition().fingerprint(),
            **({} if stream is None else {"stream": stream.get_state()}),
            **noted(self.cursor.changes),
        }

    def set_state(self, state: dict[str, Any], but: Names = ()) -> None:
        """Restore a state: the next batch is the one that would have come when the state was saved.

        ``but`` names what was changed on purpose, as the error prints it, such as ``{"batch_size"}``; everything else is held
        to. Positions count records: with another batch size, the next batch begins at the same record. What differs is listed
        in the next states, under ``changed``, with the position.

        The next loop goes on with the run that the state was saved in, also if that has no batch left and its loop had not
        been told so: then it ends at once. After a state that was saved when no loop was under way, at the end of a run, the
        next loop is the next run.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: It was saved by another stream; everything that differs is named, and nothing is changed.
            ValueError: ``but`` names what is no entry of the fingerprint, or decides which record a position means.
        """
        self._require_no_trace("restore", "call it between batches", also_closed_over=True)
        self._own_progress(is_moved=True).restore(self, self._definition(), state, but)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # of flax
        rename_attributes(self, {"_host": "_progress"})  # of version 0.1.0
        if "threads" not in vars(self):
            self.threads = "auto"
        self._reader()  # a trace could not make it

    # -- reports --------------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return summary(self._definition())

    def first_records(self, source: DataSourceModule, count: int) -> Batch:
        """Return the first records of a source like the pipeline's, as they are before the device narrows 64-bit fields.

        Host stages are called, and fields that the first stages leave out or convert are left out or converted. Of a stream, at
        most a batch is read.
        """
        return first_records(self._definition(), source, count)

    def explain(self) -> str:
        """Return the route that a loop takes and why, and hints to make it faster, in sentences."""
        return explain(self._definition(), self._own_progress(), resumes_loop=self.cursor.resumes_loop)

    def plan(self) -> str:
        """Return a description of the next run: batches, records and epochs, of each child of a mixture; nothing is read."""
        definition = self._definition()
        return plan_of(definition, self._progress.start_of_run(self, definition))

    def stats(self) -> dict[str, Any]:
        """Return counts since the pipeline was built: batches, records and bytes that loops and `step` served, and seconds.

        ``seconds_waiting`` is the time that a loop or `step` waited for batches. ``seconds_in_source`` and
        ``seconds_in_transfer`` pass in the background while batches are read ahead. ``seconds_in_stages`` is the time to
        dispatch compiled steps, not the time that they run; ``seconds_compiling`` is the time of steps that were compiled
        first. ``threads`` is the number of threads that read at last, and ``waited_of_reading`` the part of their time that
        they waited, once that was measured. ``records_substituted`` counts records that were served in place of others,
        ``records_by_child`` the records of each child of a mixture before the pipeline's position.
        """
        return stats_of(self._definition(), self._own_progress(), self.cursor.position)

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _definition(self, reader: Any = None) -> Definition:
        return Definition(
            source=self.source,
            stages=tuple(self.stages),
            rule=self.rule if type(self.rule.batch_size) is int else self.rule.over(self.source),
            stage_keys=self._stage_keys,
            layout=self._layout,
            part=self._part,
            prefetch=self.prefetch,
            threads=self.threads,
            workers=self.workers,
            reader=self._reader() if reader is None else reader,
            on_host=self._host_specs.count,
            call=None if type(self).__call__ is Pipeline.__call__ else CallOverride(self),
        )

    def _reader(self) -> DataSourceModule | StagedReader:
        """Return the reader of the records: the source, or with host stages what calls them."""
        if not self._host_specs.count:
            return self.source
        reader, stages = self._progress.reader, self._host_stages
        if reader is not None and self.cursor.is_traced:  # it reads from the originals of what the trace has copies of
            if not reader.serves_copies(stages):
                reader = self._progress.reader = reader.followed_by(stages)
            return reader
        if reader is None:
            reader = self._progress.reader = self._new_reader()
        elif not reader.serves(self.source, stages):
            reader = self._progress.reader = reader.followed_by(stages, self.source)
        return reader.with_key_data(self._stage_keys.raw_key_data)

    def _new_reader(self) -> StagedReader:
        return StagedReader(self.source, self._host_stages, self._host_specs, self._stage_keys.raw_key_data)

    @property
    def _host_stages(self) -> Sequence[Any]:
        return tuple(self.stages)[: self._host_specs.count]

    def _make_route(self, *, is_loop: bool) -> Route:
        definition, progress = self._definition(), self._progress
        route = route_of(definition)
        progress.workers = route.workers_for(definition, progress.workers)
        progress.threads = route.threads_for(definition, progress.threads)
        return route(definition, progress, is_loop=is_loop)

    def _own_progress(self, *, is_moved: bool = False) -> Progress:
        """Return the progress, which is this pipeline's own from its first use on, whatever made a copy of it.

        ``is_moved`` says that the caller moves the pipeline to another place.
        """
        progress = self._progress
        if progress.owner is None:  # a pickle or deep copy
            progress.own(self)
        elif progress.owner() is not self:  # a copy that nnx made, which shares it with the original
            self._separate(is_moved=is_moved)
        return self._progress

    def _separate(self, *, is_moved: bool = False) -> None:
        """Give a copy that nnx made readers, counts and caches of its own; its variables are its own already."""
        progress, source = self._progress, self.source.clone()
        self._progress = progress.twin(source, None if is_moved else self.cursor.position)
        self.source = source
        renew_host_states(self.stages)
        renew_caches(self.stages)
        self._progress.own(self)
        self._reader()

    def _require_no_trace(
        self, action: str, hint: str = "call pipeline.step() there", *, also_closed_over: bool = False
    ) -> None:
        if self.cursor.is_traced or (also_closed_over and isinstance(jnp.zeros(()), jax.core.Tracer)):
            raise RuntimeError(f"cannot {action} a pipeline inside a compiled function; {hint}")

    def __del__(self) -> None:
        progress = getattr(self, "_progress", None)
        if progress is not None:
            progress.drop(self)
