"""The pipeline: a source and stages, served as batches. The stream is a pure function of config, seed and position."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ._batch_rule import BatchRule, require_count
from ._cursor import Cursor
from ._modules import Split, apply_stages, stage_name
from ._permutation import DEVICE_LIMIT
from ._programs import Scan, compiled, staged
from ._routes import Route, scan_reader
from ._state import require_dict, require_keys, require_position, require_same, restore_variables, variable_state
from .build import build_source
from .config import PipelineConfig, load_config, parse_config
from .registry import SourceRegistry
from .source import DataSourceModule
from .spec import Batch, ElementSpec, batch_struct, device_spec, spec_of, split_beside

_SCAN_RECORDS = 1 << 24  # records that one compiled scan serves: 64 MiB of indices; a longer one is run in parts


class Pipeline(nnx.Module):
    """Batches of a source's records, through stages, in the source's one order.

    Iteration, `step` and `scan` serve the same records in the same order from one position, which all of them move. Epoch
    follows epoch; with ``num_epochs=k`` a loop serves exactly k epochs, its last batch may be short.

    Args:
        source: Holds the records and their order.
        stages: Callables ``batch -> batch``, run compiled. An ``nnx.Module`` may hold parameters and statistics: what it
            writes to its variables is kept.
        batch_size: Records in a batch.
        rngs: Random streams of the pipeline; saved with its state.
        num_epochs: Epochs in a loop; None is endless.
        drop_last: Leave out a last batch that is not full.
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
    ) -> None:
        _check_source(source)
        _check_stages(stages)
        self.rule = BatchRule(batch_size, num_epochs, drop_last, pad_last)
        self.source = source
        self.stages = nnx.List(list(stages))
        self.rngs = rngs
        self.cursor = Cursor()
        self._route = _HeldRoute()
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
        )

    # -- the routes -----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        """One run: ``num_epochs`` epochs of batches, from where a restored state stands or else from the next epoch.

        A second loop is a second run. A loop ends with `RuntimeError` if another one, `set_state` or `reset` came between.
        """
        self._require_no_trace("iterate")
        epoch_length = self.source.order().epoch_length
        run_length = self.rule.run_length(epoch_length)
        is_over = run_length is not None and not self.rule.next_size(
            self.cursor.run_start + run_length - self.cursor.position
        )
        run = self.cursor.begin_run(epoch_length, is_over=is_over)
        return _Iterator(self, run, None if run_length is None else self.cursor.run_start + run_length)

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
        held = self._route.held
        if held is None or not held.reads(self.source) or any(isinstance(stage, nnx.Module) for stage in self.stages):
            held = self._route.held = self._make_route()
        return self._serve(held, self.cursor.position, size)

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
        require_count("length", length)
        size, start = self.rule.batch_size, self.cursor.position
        at_once = max(1, _SCAN_RECORDS // size)
        split = Split((tuple(self.stages), tuple(modules)))
        gather, arrays = scan_reader(self.source)
        run = compiled(Scan(gather, split.structure, self.rule.pad_last, step_fn, init_carry is not None))
        carry, outs = init_carry, []
        for done in range(0, length, at_once):
            steps = min(at_once, length - done)
            rows = self._scan_indices(start + done * size, steps)
            values, carry, out = run(split.read(), arrays, rows, carry)
            split.write(values)
            outs.append(out)
        self.cursor.move(start + length * size)
        self.source.note_served(length)
        out = outs[0] if len(outs) == 1 else jax.tree.map(lambda *parts: jnp.concatenate(parts), *outs)
        return out if init_carry is None else (carry, out)

    def __call__(self, batch: Batch) -> Batch:
        """The stages, applied to a batch of your own."""
        return apply_stages(self.stages, batch)

    def element_spec(self) -> ElementSpec:
        """What one record of a served batch looks like; stages are traced, no record is read."""
        spec, beside = split_beside(self.source.element_spec())
        stages = Split(tuple(self.stages))
        mask = None if self.rule.pad_last is None else jax.ShapeDtypeStruct((self.rule.batch_size,), jnp.bool_)

        def through(values: Any, batch: Batch, mask: Any) -> Batch:
            return staged(stages.structure.merge(values), batch, self.rule.pad_last, mask)

        shapes = batch_struct(device_spec(spec), self.rule.batch_size)
        made = spec_of(jax.eval_shape(through, stages.read(), shapes, mask))
        return {**made, **beside} if beside else made

    # -- progress -------------------------------------------------------------------------------------------------------

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

    def _make_route(self) -> Route:
        return Route(self.source, tuple(self.stages), self.rule)

    def _serve(self, route: Route, position: int, size: int) -> Batch:
        """The ``size`` records from the present position on; it moves once they are ready to be handed over."""
        batch = route.batch_at(position, size)
        self.cursor.move(position + size)
        self.source.note_served(1)
        return batch

    def _traced_step(self, size: int) -> Batch:
        indices = self.source.record_indices_at(self.cursor.here, size, self.source.order_words())
        mask = None if self.rule.pad_last is None else jnp.ones(size, jnp.bool_)
        batch = staged(self.stages, self.source.fetch_traced(indices), self.rule.pad_last, mask)
        self.cursor.advance(size)
        return batch

    def _scan_indices(self, start: int, steps: int) -> np.ndarray:
        size = self.rule.batch_size
        indices = self.source.record_indices_at(start, steps * size, self.source.order_words())
        if self.source.order().length > DEVICE_LIMIT:
            raise ValueError(
                f"scan addresses at most {DEVICE_LIMIT} records; {self.source.title} has more: iterate instead"
            )
        return np.asarray(indices, np.int32).reshape(steps, size)

    def _fingerprint(self) -> dict[str, Any]:
        return self.source.fingerprint() | self.rule.fingerprint()

    def _require_no_trace(self, what: str) -> None:
        if self.cursor.is_traced:
            raise RuntimeError(f"cannot {what} a pipeline inside a compiled function; call pipeline.step() there")


class _Iterator:
    """One run over a pipeline. Holds no batch: what was served is freed when its user drops it."""

    def __init__(self, pipeline: Pipeline, run: int, end: int | None) -> None:
        self._pipeline = pipeline
        self._run = run
        self._end = end
        self._route = pipeline._make_route()  # noqa: SLF001 - one idea in two classes

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        pipeline = self._pipeline
        cursor = pipeline.cursor
        if not cursor.is_current(self._run):
            raise RuntimeError(
                "this loop is over: the pipeline was iterated anew, reset or restored since it began; use the newer iterator"
            )
        position = cursor.position
        size = pipeline.rule.next_size(None if self._end is None else self._end - position)
        if not size:
            raise StopIteration
        return pipeline._serve(self._route, position, size)  # noqa: SLF001


class _HeldRoute:
    """The route that `Pipeline.step` used last; outside of the graph."""

    def __init__(self) -> None:
        self.held: Route | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"held": None}  # a pickle or deep copy makes its own


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
        try:
            hash(stage)
        except TypeError as cause:
            raise TypeError(
                f"stage {number} ({stage_name(stage)}) has no hash to find its compiled program by: {cause}; if it is a "
                "dataclass, write @dataclass(eq=False) or @dataclass(frozen=True)"
            ) from cause
