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

from ._batch_rule import BatchRule, whole_number
from ._cursor import Cursor
from ._explain import explain, summary
from ._iterator import BatchIterator, Ticket
from ._modules import Split, apply_stages, require_hash
from ._permutation import DEVICE_LIMIT
from ._programs import Scan, compiled, staged, with_fields
from ._randomness import StageKeys
from ._routes import Route, scan_reader
from ._state import require_dict, require_keys, require_position, require_same, restore_variables, variable_state
from ._stats import Stats
from .build import build_source
from .cache import check_record_stages, renew_caches
from .config import PipelineConfig, load_config, parse_config
from .graph import Graph
from .registry import SourceRegistry
from .source import DataSourceModule
from .spec import Batch, ElementSpec, batch_struct, device_spec, named_fields, spec_of, split_beside

_SCAN_RECORDS = 1 << 24  # records that one compiled scan serves: 64 MiB of indices; a longer one is run in parts


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
        prefetch: Batches that a loop reads ahead on a background thread, where the host reads the records; 0 reads none. A
            source on the device needs none: its steps are compiled, and dispatched without waiting.
        pad_last: Complete the last batch by repeating its last record, and add a boolean field of this name to every
            batch, true for real records.

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
    ) -> None:
        _check_source(source)
        _check_stages(stages)
        check_record_stages(stages, source)
        self.rule = BatchRule(batch_size, num_epochs, drop_last, pad_last)
        self.source = source
        self.stages = nnx.List(list(stages))
        self.rngs = rngs
        self.prefetch = whole_number("prefetch", prefetch, at_least=0)
        self.cursor = Cursor()
        self._stage_keys = StageKeys(stages, rngs)
        self._host = _HostParts()
        if pad_last is not None:
            with_fields(source.element_spec(), {pad_last: None}, "the mask of pad_last")
        if self.rule.num_batches(source.order().epoch_length) == 0:
            raise ValueError(
                f"batch_size={batch_size} with drop_last leaves no batch of the {source.order().epoch_length} records "
                f"that {source.title} serves; make it smaller"
            )

    @classmethod
    def from_config(
        cls,
        config: str | PathLike[str] | Mapping[str, Any] | PipelineConfig,
        registry: SourceRegistry | None = None,
        *,
        stages: Sequence[Callable[[Batch], Batch]] = (),
    ) -> Self:
        """The pipeline that a file (YAML, TOML, JSON) or mapping describes, with ``stages`` made in Python.

        Raises:
            ConfigError: The config is invalid; every problem with its place.
            SourceError: The source it names cannot be used; the subclass says why.
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

        The first loop goes on from where `step`, `scan` or a restored state stand, to the end of that run; every further
        one is a run of its own, from the next epoch that nothing was served of. A loop ends with
        `RuntimeError` if another one, `set_state` or `reset` came between.
        """
        self._require_no_trace("iterate")
        epoch_length = self.source.order().epoch_length
        run_length = self.rule.run_length(epoch_length)
        is_over = run_length is not None and not self.rule.next_size(
            self.cursor.run_start + run_length - self.cursor.position
        )
        run = self.cursor.begin_run(epoch_length, is_over=is_over)
        end = None if run_length is None else self.cursor.run_start + run_length
        ticket = Ticket(lambda: self.cursor.is_current(run), lambda: self.cursor.position, end)
        return BatchIterator(self._make_route(is_loop=True), self.rule, ticket, self._hand_over, prefetch=self.prefetch)

    def __len__(self) -> int:
        """Batches in one run."""
        batches = self.rule.num_batches(self.source.order().epoch_length)
        if batches is None:
            raise TypeError("an endless pipeline (num_epochs=None) has no length")
        return batches

    def step(self) -> Batch:
        """The next batch, always a full one: past the end of an epoch it goes on with the head of the next.

        Traceable: under ``nnx.jit``, with the pipeline as an argument, the position moves as any variable does. Cost does not
        depend on the size of the data.
        """
        size = self.rule.batch_size
        if self.cursor.is_traced:
            return self._traced_step(size)
        began, position, route = perf_counter(), self.cursor.position, self._host.route
        if route is None or not route.serves(self.source, tuple(self.stages)):
            route = self._host.route = self._make_route(is_loop=False)
        return self._hand_over(route.batch_at(position, size), position, size, began)

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
        length = whole_number("length", length, at_least=1)
        if not isinstance(modules, Sequence):
            raise TypeError(f"modules is a tuple of modules, such as (model, optimizer), not {type(modules).__name__}")
        size, start = self.rule.batch_size, self.cursor.position
        at_once = max(1, _SCAN_RECORDS // size)
        split = Split((tuple(self.stages), tuple(modules)))
        gather, arrays = scan_reader(self.source)
        run = compiled(Scan(gather, split.structure, self.rule.pad_last, step_fn, init_carry is not None))
        carry, outs = init_carry, []
        for done in range(0, length, at_once):
            steps = min(at_once, length - done)
            rows = self._scan_indices(start + done * size, steps)
            keyed = self._stage_keys.names(self.source, start + done * size, rows)
            values, carry, out = run(split.read(), arrays, rows, keyed, carry)
            split.write(values)
            outs.append(out)
        self.cursor.move(start + length * size)
        self.source.note_served(length)
        out = outs[0] if len(outs) == 1 else jax.tree.map(lambda *parts: jnp.concatenate(parts), *outs)
        return out if init_carry is None else (carry, out)

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
        return {**made, **beside} if beside else made

    # -- what it says of itself -----------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return summary(self.source, tuple(self.stages), self.rule)

    def explain(self) -> str:
        """The route that a loop takes and why, and what would make it faster."""
        return explain(self.source, tuple(self.stages), self.rule, self.prefetch)

    def stats(self) -> dict[str, Any]:
        """What was served one by one since the pipeline was built: batches, records, bytes, and where the seconds went.

        ``seconds_waiting`` is the time that loop or `step` waited for batches. ``seconds_in_source`` and
        ``seconds_in_transfer`` pass in the background where batches are read ahead; ``seconds_in_stages`` is the time to
        dispatch compiled steps, which run on. ``records_substituted`` counts records served in place of others.
        """
        leaves = named_fields(device_spec(self.source.element_spec())).values()
        record_bytes = sum(leaf.dtype.itemsize * math.prod(leaf.shape) for leaf in leaves)
        skipped = self.source.get_operation_stats()["skipped_count"]
        return {**self._host.stats.as_dict(record_bytes), "records_substituted": skipped}

    # -- progress -------------------------------------------------------------------------------------------------------

    def clone(self) -> Self:
        """An independent twin: its own position, variables and random streams; data that never changes is shared."""
        twin = nnx.clone(self)
        twin.cursor.renew()
        twin._host = _HostParts()  # noqa: SLF001 - of this class
        twin.source = twin.source.clone()
        renew_caches(twin.stages)
        return twin

    def reset(self) -> None:
        """Back to the first position; what stages learned stays, and random streams go on."""
        self.cursor.restore(0, 0)

    def get_state(self) -> dict[str, Any]:
        """Where the stream stands: JSON-able, about a kilobyte, no data. Valid between any two batches.

        Parameters and statistics of stages are not in it: save ``nnx.state(pipeline.stages)`` beside your model.
        """
        return {
            "position": self.cursor.position,
            "run_start": self.cursor.run_start,
            "rngs": variable_state(self, nnx.RngState),
            "fingerprint": self._fingerprint(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Stand where a state was saved: the next batch is the one that would have come then.

        The next loop goes on with the run that the state was saved in; a state saved at the end of a run is followed by
        the next run, as a second loop would have been.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: It was saved by another stream; everything that differs is named, and nothing is changed.
        """
        title = f"the pipeline over {self.source.title}"
        require_dict(state, title)
        require_keys(state, {"position", "run_start", "rngs", "fingerprint"}, title)
        require_same(state["fingerprint"], self._fingerprint(), title)
        require_position(state, title)
        restore_variables(self, state["rngs"], nnx.RngState)
        self.cursor.restore(state["position"], state["run_start"])

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _make_route(self, *, is_loop: bool) -> Route:
        return Route(self.source, tuple(self.stages), self.rule, self._stage_keys, self._host.stats, is_loop=is_loop)

    def _hand_over(self, batch: Batch, position: int, size: int, began: float) -> Batch:
        """Move the position, now that the batch is ready, and count it."""
        self.cursor.move(position + size)
        self.source.note_served(1)
        self._host.stats.add_batch(size, perf_counter() - began)
        return batch

    def _traced_step(self, size: int) -> Batch:
        indices = self.source.record_indices_at(self.cursor.here, size, self.source.order_words())
        mask = None if self.rule.pad_last is None else jnp.ones(size, jnp.bool_)
        keyed = self._stage_keys.names(self.source, self.cursor.here, indices)
        batch = staged(self.stages, self.source.fetch_traced(indices), self.rule.pad_last, mask, keyed)
        self.cursor.advance(size)
        return batch

    def _scan_indices(self, start: int, steps: int) -> np.ndarray:
        if self.source.order().length > DEVICE_LIMIT:
            title = self.source.title
            raise ValueError(f"scan addresses at most {DEVICE_LIMIT} records; {title} has more: iterate instead")
        indices = self.source.record_indices_at(start, steps * self.rule.batch_size, self.source.order_words())
        return np.asarray(indices, np.int32).reshape(steps, self.rule.batch_size)

    def _fingerprint(self) -> dict[str, Any]:
        return self.source.fingerprint() | self.rule.fingerprint() | self._stage_keys.fingerprint()

    def _require_no_trace(self, what: str) -> None:
        if self.cursor.is_traced:
            raise RuntimeError(f"cannot {what} a pipeline inside a compiled function; call pipeline.step() there")


class _HostParts:
    """What a pipeline holds on the host: the route that `Pipeline.step` used last, and its counts; outside of the graph."""

    def __init__(self) -> None:
        self.route: Route | None = None
        self.stats = Stats()

    def __getstate__(self) -> dict[str, Any]:
        return vars(_HostParts())  # a pickle or deep copy makes its own


def _check_source(source: Any) -> None:
    if not isinstance(source, DataSourceModule):
        raise TypeError(
            f"source is a DataSourceModule, such as MemorySource(config, data), not {type(source).__name__}"
        )
    if source.access == "stream":
        raise NotImplementedError(
            f"{source.title} is a stream without random access, which the pipeline cannot read yet"
        )


def _check_stages(stages: Any) -> None:
    if callable(stages) or not isinstance(stages, Sequence):
        raise TypeError(f"stages is a list of callables, not {type(stages).__name__}")
    for number, stage in enumerate(stages):
        if not callable(stage):
            raise TypeError(f"stage {number} is not callable: {stage!r}; a stage takes a batch and returns one")
        require_hash(stage, f"stage {number}")
