"""The pipeline: a source and stages, served as batches. The stream is a pure function of config, seed and position."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from time import perf_counter
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ._arguments import require_batches, require_source, require_stages
from ._batch_rule import BatchRule, whole_number
from ._cursor import Cursor
from ._explain import explain, plan_of, summary
from ._iterator import BatchIterator, Ticket
from ._layout import layout_of
from ._modules import Split, apply_stages
from ._plan import Plan
from ._processes import part_of, require_agreement, require_on_all, what_is_run
from ._programs import served, staged
from ._randomness import StageKeys
from ._routes import HostParts, Prepared, Route, traced_records
from ._scan import ScanInParts
from ._state import (
    checked_variables,
    require_dict,
    require_keys,
    require_position,
    require_same,
    variable_state,
    write_variables,
)
from ._workers import Workers
from .build import build_source
from .cache import check_record_stages, renew_caches
from .config import PipelineConfig, load_config, parse_config
from .graph import Graph
from .module import checked_rngs
from .registry import SourceRegistry
from .source import DataSourceModule
from .spec import Batch, ElementSpec, batch_struct, device_spec, named_fields, spec_of, split_beside, with_beside


class Pipeline(nnx.Module):
    """Batches of a source's records, through stages, in the source's one order.

    Iteration, `step` and `scan` serve the same records in the same order from one position, which all of them move. Epoch
    follows epoch; with ``num_epochs=k`` a loop serves exactly k epochs, its last batch may be short.

    Args:
        source: Holds the records and their order.
        stages: Callables ``batch -> batch``, run compiled. One that says ``stochastic = True`` is called with ``(batch,
            keys)``, one key a record, folded from stage, epoch and record index. One that says ``takes_record_indices =
            True`` is called with the records' indices, int32 (k,), as its last argument. An ``nnx.Module`` may hold parameters
            and statistics: what it writes to its variables is kept.
        batch_size: Records in a batch.
        rngs: Random streams of the pipeline; saved with its state.
        num_epochs: Epochs in a loop; None is endless.
        drop_last: Leave out a last batch that is not full.
        pad_last: Complete the last batch by repeating its last record, and add a boolean field of this name to every
            batch, true for real records.
        prefetch: Batches that a loop reads ahead on a background thread, where the host reads the records; 0 reads none. A
            source on the device needs none: its steps are compiled, and dispatched without waiting.
        workers: Processes that read for a source on the host whose decoding is Python, and keeps one core busy; 0 reads in
            this process. They start with the first batch, each with a copy of the source, which must pickle.
        sharding: How batches lie on devices: a ``jax.sharding.NamedSharding`` whose spec is that of a whole field (one of
            fewer dimensions takes its head), or a ``SingleDeviceSharding``; None is the default device. Over devices of
            several processes, each process builds an equal pipeline and reads the rows that its devices hold.

    Raises:
        TypeError, ValueError: An argument cannot work; the message names it.
    """

    def __init__(
        self,
        *,
        source: DataSourceModule,
        stages: Sequence[Callable[[Batch], Batch]] = (),
        batch_size: int,
        rngs: nnx.Rngs | None = None,
        num_epochs: int | None = 1,
        drop_last: bool = False,
        pad_last: str | None = None,
        prefetch: int = 2,
        workers: int = 0,
        sharding: jax.sharding.Sharding | None = None,
    ) -> None:
        require_source(source)
        require_stages(stages)
        check_record_stages(stages, source)
        self.rule = BatchRule(batch_size, num_epochs, drop_last, pad_last)
        self._layout = layout_of(sharding)
        self.source, self._part = part_of(source, self._layout)
        self.stages = nnx.List(list(stages))
        self.rngs = checked_rngs(rngs, "a pipeline")
        self.prefetch = whole_number("prefetch", prefetch, at_least=0)
        self.workers = whole_number("workers", workers, at_least=0)
        self.cursor = Cursor()
        self._stage_keys = StageKeys(stages, self.rngs)
        plan = self._plan()
        self._host = HostParts.of(plan)
        shared = what_is_run(source, stages, sharding) | {"num_epochs": num_epochs, "epoch": plan.epoch_length}
        require_agreement(shared | source.fingerprint() | plan.rule_fingerprint(), self._layout)
        require_batches(plan)

    @classmethod
    def from_config(
        cls,
        config: str | PathLike[str] | Mapping[str, Any] | PipelineConfig,
        registry: SourceRegistry | None = None,
        *,
        stages: Sequence[Callable[[Batch], Batch]] = (),
        sharding: jax.sharding.Sharding | None = None,
    ) -> Self:
        """The pipeline that a file (YAML, TOML, JSON) or mapping describes, with ``stages`` and ``sharding`` made in Python.

        Raises:
            ConfigError: The config is invalid; every problem with its place.
            PluginError: The source it names cannot be used; the subclass says why.
        """
        if isinstance(config, Mapping):
            config = parse_config(config, registry=registry)
        elif not isinstance(config, PipelineConfig):
            config = load_config(config, registry)
        return cls(
            source=build_source(config.source, registry, seed=config.seed),
            stages=stages,
            batch_size=config.batch_size,
            rngs=nnx.Rngs(config.seed),
            num_epochs=config.num_epochs,
            drop_last=config.drop_last,
            pad_last=config.pad_last,
            prefetch=config.prefetch,
            workers=config.workers,
            sharding=sharding,
        )

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
        """A pipeline whose one stage is a `Graph`; ``options`` are those of the constructor.

        Raises:
            ValueError: The graph cannot work; see `Graph`.
        """
        return cls(source=source, stages=[Graph(nodes=nodes, edges=edges, sink=sink)], **options)

    # -- the routes -----------------------------------------------------------------------------------------------------

    def __iter__(self) -> BatchIterator:
        """One run: ``num_epochs`` epochs of batches.

        The first loop goes on from where `step`, `scan` or a restored state stand, to the end of that run; every further one
        is a run of its own, from the next epoch that nothing was served of. A loop ends with `RuntimeError` if another one,
        `set_state` or `reset` came between.
        """
        self._require_no_trace("iterate")
        epoch_length = self._plan().epoch_length
        run_length = self.rule.run_length(epoch_length)
        left = None if run_length is None else self.cursor.run_start + run_length - self.cursor.position
        run = self.cursor.begin_run(epoch_length, is_over=not self.rule.next_size(left))
        end = None if run_length is None else self.cursor.run_start + run_length
        ticket = Ticket(
            lambda: self.cursor.is_current(run), lambda: self.cursor.position, end, self._hand_over, self._move_past
        )
        return BatchIterator(self._make_route(is_loop=True), self.rule, ticket, prefetch=self.prefetch)

    def __len__(self) -> int:
        """Batches in one run."""
        epoch_length = self._plan().epoch_length
        if epoch_length is None:
            raise TypeError(f"a pipeline over {self.source.title} has no length: it is a stream without one")
        batches = self.rule.num_batches(epoch_length)
        if batches is None:
            raise TypeError("an endless pipeline (num_epochs=None) has no length")
        return batches

    def step(self) -> Batch:
        """The next batch, always a full one: past the end of an epoch it goes on with the head of the next.

        Only of a stream without a length, when it ends, the last batch is what is left, as in a loop.

        Traceable: under ``nnx.jit``, with the pipeline as an argument, the position moves as any variable does. Cost does not
        depend on the size of the data.

        Raises:
            RuntimeError: A stream without a length has ended.
        """
        size = self.rule.batch_size
        if self.cursor.is_traced:
            return self._traced_step(size)
        began, position, route = perf_counter(), self.cursor.position, self._host.step_route
        if route is None or not route.serves(self.source, tuple(self.stages)):
            route = self._host.step_route = self._make_route(is_loop=False)
        try:
            prepared = route.prepare((position, size, route.version()))
            if prepared.size < size and self.rule.drop_last:
                self._move_past(position, prepared)
                raise StopIteration  # noqa: TRY301 - as if the stream had ended there
            batch = route.finish(prepared)
        except StopIteration:
            raise RuntimeError(f"{self.source.title} has ended; reset() the pipeline to start it over") from None
        return self._hand_over(batch, position, prepared, began)

    def scan(
        self, step_fn: Callable[..., Any], *, length: int, modules: Sequence[Any] = (), init_carry: Any = None
    ) -> Any:
        """Run ``step_fn`` over the next ``length`` full batches in one compiled program.

        Args:
            step_fn: ``step_fn(*modules, batch) -> out``, or with ``init_carry``, ``step_fn(carry, *modules, batch) ->
                (carry, out)``. Compiled once for the same function and shapes.
            length: Number of batches.
            modules: ``nnx`` modules that the step reads and writes; every variable it writes is kept.
            init_carry: First carry.

        Returns:
            The outputs, stacked; with ``init_carry`` (last carry, outputs).
        """
        self._require_no_trace("scan")
        if self.source.access == "stream":
            raise NotImplementedError(
                f"{self.source.title} is a stream, which compiled code cannot reach; iterate the pipeline, or call step()"
            )
        length = whole_number("length", length, at_least=1)
        start, size = self.cursor.position, self.rule.batch_size
        scan = ScanInParts(self._plan())
        result = scan(step_fn, length=length, modules=modules, init_carry=init_carry, start=start)
        self.cursor.move(start + length * size)
        self.source.note_served(length)
        return result

    def __call__(self, batch: Batch) -> Batch:
        """The stages, applied to a batch of your own; not for those that need to know their records."""
        return apply_stages(self.stages, batch)

    def element_spec(self) -> ElementSpec:
        """What one record of a served batch looks like; stages are traced, no record is read."""
        spec, beside = split_beside(self.source.element_spec())
        stages = Split(tuple(self.stages))
        mask = None if self.rule.pad_last is None else jax.ShapeDtypeStruct((self.rule.batch_size,), jnp.bool_)
        keyed = self._stage_keys.names(self.source, 0, np.zeros(self.rule.batch_size, np.int64))

        def through(values: Any, batch: Batch, mask: Any) -> Batch:
            return staged(stages.structure.merge(values), batch, self.rule.pad_last, mask, keyed)

        shapes = batch_struct(device_spec(spec), self.rule.batch_size)
        made = spec_of(jax.eval_shape(through, stages.read(), shapes, mask))
        return with_beside(made, beside) if beside else made

    # -- what it says of itself -----------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return summary(self._plan())

    def explain(self) -> str:
        """The route that a loop takes and why, and what would make it faster."""
        return explain(self._plan())

    def plan(self) -> str:
        """What a run will serve: batches, records and epochs, of each child of a mixture; nothing is read."""
        return plan_of(self._plan())

    def stats(self) -> dict[str, Any]:
        """What was served one by one since the pipeline was built: batches, records, bytes, and where the seconds went.

        ``seconds_waiting`` is the time that loop or `step` waited for batches. ``seconds_in_source`` and
        ``seconds_in_transfer`` pass in the background where batches are read ahead; ``seconds_in_stages`` is the time to
        dispatch compiled steps, which run on. ``records_substituted`` counts records served in place of others,
        ``records_by_child`` those of each child of a mixture before the position where the pipeline stands.
        """
        leaves = named_fields(device_spec(self.source.element_spec())).values()
        record_bytes = sum(leaf.dtype.itemsize * math.prod(leaf.shape) for leaf in leaves)
        substituted = {"records_substituted": self.source.get_operation_stats()["skipped_count"]}
        return self._host.stats.as_dict(record_bytes) | substituted | self.source.stats_at(self.cursor.position)

    # -- progress -------------------------------------------------------------------------------------------------------

    def clone(self) -> Self:
        """An independent twin: its own position, variables and random streams; data that never changes is shared."""
        twin = nnx.clone(self)
        twin.cursor.renew()
        twin.source = twin.source.clone()
        renew_caches(twin.stages)
        stream = None if self._host.stream is None else self._host.stream.twin(twin.source)
        twin._host = HostParts(stream=stream)  # noqa: SLF001 - of this class
        return twin

    def reset(self) -> None:
        """Back to the first position; what stages learned stays, and random streams go on."""
        if self._host.stream is not None:
            self._host.stream.rewind(0)
        self.cursor.restore(0, 0)

    def get_state(self) -> dict[str, Any]:
        """Where the stream stands: JSON-able, about a kilobyte, no data. Valid between any two batches, on any process.

        The state of a source that is read forward only is in it, as it stood behind the batch that was served last.
        Parameters and statistics of stages are not in it: save ``nnx.state(pipeline.stages)`` beside your model.
        """
        stream = {} if self._host.stream is None else {"stream": self._host.stream.get_state()}
        return {
            "position": self.cursor.position,
            "run_start": self.cursor.run_start,
            "rngs": variable_state(self, nnx.RngState),
            "fingerprint": self._plan().fingerprint(),
            **stream,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Stand where a state was saved: the next batch is the one that would have come then.

        The next loop goes on with the run that the state was saved in; a state saved at the end of a run is followed by
        the next run, as a second loop would have been.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: It was saved by another stream; everything that differs is named, and nothing is changed.
        """
        require_on_all(lambda: self._checked_place(state), self._layout)
        position, run_start = require_position(state, self.source.title)
        variables = checked_variables(self, state["rngs"], nnx.RngState)
        if self._host.stream is not None:
            self._host.stream.set_state(state["stream"])
        write_variables(self, variables, nnx.RngState)
        self.cursor.restore(position, run_start)

    def _checked_place(self, state: Any) -> dict[str, Any]:
        """Position and run start of a state that is one of this stream; else raise what `set_state` raises."""
        title, stream = f"the pipeline over {self.source.title}", self._host.stream
        require_dict(state, title)
        keys = {"position", "run_start", "rngs", "fingerprint"}
        require_keys(state, keys if stream is None else keys | {"stream"}, title)
        require_same(state["fingerprint"], self._plan().fingerprint(), title)
        position, run_start = require_position(state, title)
        checked_variables(self, state["rngs"], nnx.RngState)
        if stream is not None:
            stream.require_state(state["stream"], position)
        return {"position": position, "run_start": run_start}

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _plan(self) -> Plan:
        return Plan(
            source=self.source,
            stages=tuple(self.stages),
            rule=self.rule,
            randomness=self._stage_keys,
            layout=self._layout,
            part=self._part,
            prefetch=self.prefetch,
            workers=self.workers,
        )

    def _make_route(self, *, is_loop: bool) -> Route:
        workers = self._host.workers
        if self.workers and (workers is None or not workers.reads(self.source)):
            here, size = self._layout.rows_here(self.rule.batch_size), self.rule.batch_size
            own = size if here is None else len(here)
            self._host.workers = Workers(self.source, self.workers, batch_size=own, ahead=self.prefetch)
        return Route(self._plan(), self._host, is_loop=is_loop)

    def _hand_over(self, batch: Batch, position: int, prepared: Prepared, began: float) -> Batch:
        """Move the position, now that the batch is ready, and count it."""
        self._move_past(position, prepared)
        self.source.note_served(1)
        self._host.stats.add_batch(prepared.size, perf_counter() - began)
        return batch

    def _move_past(self, position: int, prepared: Prepared) -> None:
        self.cursor.move(position + prepared.size)
        if self._host.stream is not None:
            self._host.stream.hand_over(position + prepared.size, prepared.behind)

    def _traced_step(self, size: int) -> Batch:
        if self.source.access == "stream":
            raise NotImplementedError(
                f"{self.source.title} is a stream, which compiled code cannot reach; call step() outside of it"
            )
        indices = self.source.record_indices_at(self.cursor.here, size, self.source.order_words())
        mask = None if self.rule.pad_last is None else jnp.ones(size, jnp.bool_)
        keyed = self._stage_keys.names(self.source, self.cursor.here, indices)
        batch = traced_records(self.source, self._layout, indices)
        batch = served(self.stages, batch, self.rule.pad_last, mask, keyed, layout=self._layout)
        self.cursor.advance(size)
        return batch

    def _require_no_trace(self, what: str) -> None:
        if self.cursor.is_traced:
            raise RuntimeError(f"cannot {what} a pipeline inside a compiled function; call pipeline.step() there")
