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

from datarax_core.devices.layout import layout_of
from datarax_core.order.numbers import whole_number
from datarax_core.records.spec import (
    Batch,
    ElementSpec,
    batch_struct,
    device_spec,
    host_fields_after,
    named_fields,
    spec_of,
    split_host_fields,
    with_host_fields,
)
from datarax_core.registry.pipeline_config import PipelineConfig, load_config, parse_config
from datarax_core.registry.sources import SourceRegistry, default_hooks
from datarax_core.sources.module import checked_rngs
from datarax_core.sources.source import DataSourceModule
from datarax_core.sources.state import Cursor
from datarax_core.stages.apply import apply_stages, require_stages
from datarax_core.stages.build import build_stages
from datarax_core.stages.cache import check_record_stages
from datarax_core.stages.graph import Graph
from datarax_core.stages.randomness import StageKeys
from datarax_core.stages.split_modules import SplitModules
from datarax_core.workers.pool import Workers

from .build import build_source, placing_stages_of
from .definition import BatchRule, Definition, require_batches, require_source
from .explain import explain, plan_of, summary
from .loop import BatchIterator
from .multihost import part_of, require_agreement, what_is_run
from .programs import ScanInParts, require_carried, served, staged, traced_records
from .progress import HostParts, Progress
from .route import Route


class Pipeline(Progress):
    """Batches of a source's records, through stages, in the source's one order.

    Iteration, `step` and `scan` serve the same records in the same order from one position, which all of them move. Epoch
    follows epoch; with ``num_epochs=k`` a loop serves exactly k epochs, its last batch may be short.

    Args:
        source: Holds the records and their order.
        stages: Callables ``batch -> batch``, run compiled. One that says ``stochastic = True`` is called with ``(batch,
            keys)``, one key a record, folded from stage, epoch and record index. One that says ``takes_record_indices =
            True`` is called with the records' indices, int32 (k,), as its last argument. An ``nnx.Module`` may hold parameters
            and statistics: what it writes to its variables is kept. A `Stage`, as configs name them, is built here.
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
        default_hooks().load_installed()
        require_source(source)
        require_stages(stages)
        self.rule = BatchRule(batch_size, num_epochs, drop_last, pad_last)
        self.rngs = checked_rngs(rngs, "a pipeline")
        stages = build_stages(stages, source, self.rngs, batch_size=self.rule.batch_size, mask_field=pad_last)
        check_record_stages(stages, source)
        self._layout = layout_of(sharding)
        self.source, self._part = part_of(source, self._layout)
        self.stages = nnx.List(stages)
        self.prefetch = whole_number("prefetch", prefetch, at_least=0)
        self.workers = whole_number("workers", workers, at_least=0)
        self.cursor = Cursor()
        self._stage_keys = StageKeys(stages, self.rngs)
        plan = self._definition()
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
        """The pipeline that a file (YAML, TOML, JSON) or mapping describes; ``stages`` come behind those that it names.

        Raises:
            ConfigError: The config is invalid, or a stage of it cannot work on the records; every problem with its place.
            PluginError: The source it names cannot be used; the subclass says why.
        """
        default_hooks().load_installed()  # they may register the source that is named
        if isinstance(config, Mapping):
            config = parse_config(config, registry=registry)
        elif not isinstance(config, PipelineConfig):
            config = load_config(config, registry)
        require_stages(stages)
        options = config.model_dump(
            include={"batch_size", "num_epochs", "drop_last", "pad_last", "prefetch", "workers"}
        )
        source, rngs = build_source(config.source, registry, seed=config.seed), nnx.Rngs(config.seed)
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
        return self._begin_run()

    def __len__(self) -> int:
        """Batches in one run."""
        epoch_length = self._definition().epoch_length
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
        began, host, position = perf_counter(), self._host, self.cursor.position
        if position >= host.events.due:
            host.events.catch_up(self, position)
        route = host.step_route
        if route is None or not route.serves(self.source, tuple(self.stages)):
            route = host.step_route = self._make_route(is_loop=False)
        try:
            prepared = route.prepare((position, size, route.version()))
            if prepared.size < size and self.rule.drop_last:
                self._move_past(position, prepared)
                raise StopIteration  # noqa: TRY301 - as if the stream had ended there
            batch = route.finish(prepared)
        except StopIteration:
            host.events.end_stream(self, self.cursor.position)
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
        start, size = self._standing(), self.rule.batch_size
        scan = ScanInParts(self._definition())
        result = scan(step_fn, length=length, modules=modules, init_carry=init_carry, start=start)
        self.cursor.move(start + length * size)
        self.source.note_served(length)
        self._standing()
        return result

    def __call__(self, batch: Batch) -> Batch:
        """The stages, applied to a batch of your own; not for those that need to know their records."""
        return apply_stages(self.stages, batch)

    def element_spec(self) -> ElementSpec:
        """What one record of a served batch looks like; stages are traced, no record is read."""
        spec, host_fields = split_host_fields(self.source.element_spec())
        host_fields = host_fields_after(self.stages, host_fields)
        stages = SplitModules(tuple(self.stages))
        mask = None if self.rule.pad_last is None else jax.ShapeDtypeStruct((self.rule.batch_size,), jnp.bool_)
        record_ids = self._stage_keys.record_ids(self.source, 0, np.zeros(self.rule.batch_size, np.int64))

        def through(values: Any, batch: Batch, mask: Any) -> Batch:
            return staged(stages.structure.merge(values), batch, self.rule.pad_last, mask, record_ids)

        shapes = batch_struct(device_spec(spec), self.rule.batch_size)
        made = spec_of(jax.eval_shape(through, stages.read(), shapes, mask))
        return with_host_fields(made, host_fields) if host_fields else made

    # -- what it says of itself -----------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return summary(self._definition())

    def explain(self) -> str:
        """The route that a loop takes and why, and what would make it faster."""
        return explain(self._definition())

    def plan(self) -> str:
        """What a run will serve: batches, records and epochs, of each child of a mixture; nothing is read."""
        return plan_of(self._definition())

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

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _definition(self) -> Definition:
        return Definition(
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
        host = self._host
        return Route(self._definition(), host.stream, host.workers, host.stats, is_loop=is_loop)

    def _traced_step(self, size: int) -> Batch:
        if self.source.access == "stream":
            raise NotImplementedError(
                f"{self.source.title} is a stream, which compiled code cannot reach; call step() outside of it"
            )
        require_carried(self.source, self.stages)
        indices = self.source.record_indices_at(self.cursor.here, size, self.source.order_key_data())
        mask = None if self.rule.pad_last is None else jnp.ones(size, jnp.bool_)
        record_ids = self._stage_keys.record_ids(self.source, self.cursor.here, indices)
        batch = traced_records(self.source, self._layout, indices)
        batch = served(self.stages, batch, self.rule.pad_last, mask, record_ids, layout=self._layout)
        self.cursor.advance(size)
        return batch
