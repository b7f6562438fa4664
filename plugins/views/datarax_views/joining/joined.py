"""What views of several sources share: their arguments, and records that are read from each source and put together."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import numpy as np
from flax import nnx

from datarax_core.order import record_numbers
from datarax_core.records import Batch, split_host_fields, with_host_fields
from datarax_core.sources import Access, Capabilities, DataSourceModule, SourceView

from .config import JoinedConfig

Reads: TypeAlias = Sequence[Callable[[jax.Array], Batch]]
"""Functions that read each source at traced int32 (k,) record indices of its own."""

Join: TypeAlias = Callable[[Reads, jax.Array, Any], Batch]
"""A function of how each source is read, of traced record indices of the view, and of its arguments."""


class JoinedView(SourceView):
    """Base of views of several sources, each record of which is put together from records of theirs.

    A subclass defines ``__len__``, `element_spec`, `merged_host_fields`, and `parts_of`, `put_together` and `traced_join`.

    The view is on the device if all its sources are; else the host reads it, each source by one call for a batch.
    """

    config: JoinedConfig

    def __init__(
        self,
        config: JoinedConfig,
        *sources: Any,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        kind = type(self)
        if not isinstance(config, kind.config_class):
            raise TypeError(f"{kind.__name__} needs a {kind.config_class.__name__}, not {config!r:.80}")
        names, listed = listed_sources(sources, kind.__name__)
        if names is not None and config.names not in (None, names):
            raise ValueError(
                f"the sources of {kind.__name__} are called {', '.join(map(repr, config.names or ()))} in the config, and "
                f"{', '.join(map(repr, names))} where they are given; name the same ones in the same order"
            )
        if names is not None:
            config = config.model_copy(update={"names": names})
        if config.names is not None and len(config.names) != len(listed):
            raise ValueError(
                f"{kind.__name__} was given {len(listed)} sources, and its config names {len(config.names)}; give each "
                "source a name"
            )
        super().__init__(config, *listed, rngs=rngs, name=name)
        for number, parent in enumerate(self.parents):
            if not parent.num_records:
                raise ValueError(
                    f"{self.called(number)} of {self.title} is empty: it has no records to serve; leave it out"
                )

    # -- methods that a subclass defines ---------------------------------------------------------------------------------------

    def parts_of(self, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield (number of a source, rows of the batch, its own record indices there) for each source that is read."""
        raise NotImplementedError

    def put_together(self, parts: Iterable[tuple[int, np.ndarray, Any]], size: int) -> Batch:
        """Return a batch of ``size`` records from (number of a source, rows of the batch, its records there)."""
        raise NotImplementedError

    def merged_host_fields(self, parts: Iterable[tuple[int, np.ndarray, dict[str, Any]]], size: int) -> dict[str, Any]:
        """Return the host fields of ``size`` records from (number of a source, rows of the batch, its host fields there)."""
        raise NotImplementedError

    def traced_join(self) -> tuple[Join, Any]:
        """Return (hashable function that puts records together in compiled code, its NumPy arguments)."""
        raise NotImplementedError

    # -- names -----------------------------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources; their numbers if they have none."""
        return self.config.names or tuple(map(str, range(len(self.parents))))

    def called(self, number: int) -> str:
        """Return the source in errors: ``source 'text'``, or its number."""
        return f"source {self.names[number]!r}" if self.config.names else f"source {number}"

    # -- records ---------------------------------------------------------------------------------------------------------------

    @property
    def access(self) -> Access:
        """How the records are reached: on the device if those of all sources are there, else by the host."""
        are_there = all(parent.access == "device" for parent in self.parents)
        return "device" if are_there and not self._hooks_reads else "host"

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of the sources, all together."""
        return DataSourceModule.capabilities.fget(self)  # type: ignore[attr-defined, no-any-return]  # of the property

    @property
    def varies_by_epoch(self) -> bool:
        """Whether the records of a source differ from epoch to epoch, and are not kept by ``cacheable``."""
        return not self.config.cacheable and any(map(self.follows_epochs, range(len(self.parents))))

    def get_records(self, indices: Any) -> Batch:
        """Return the records at ``indices``, traced or not; on the device if the sources are, else as NumPy arrays."""
        if isinstance(indices, jax.core.Tracer):
            return self.fetch_traced(indices)
        if self.access != "device":
            return self._read(indices)
        batch = _gathered(*self.compiled_records(), self._checked(indices).astype(np.int32))
        host_fields = self.host_field_records(indices)
        return with_host_fields(batch, host_fields) if host_fields else batch

    def fetch(self, indices: np.ndarray) -> Batch:
        """Return the records at concrete ``indices``; they are kept if the config says ``cacheable``."""
        return super().fetch(indices) if self.config.cacheable else self.get_records(indices)

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """Return the records at concrete ``indices``, read by the host in one call for each source."""
        return self.fetch(indices) if self.config.cacheable else self._read(indices, may_compile=False)

    def fetch_traced(self, indices: jax.Array, *, over_mesh: bool = False) -> Batch:
        """Return the records at traced ``indices``; read by a callback unless the view is on the devices of the trace."""
        self.require_no_host_fields()
        if self.access != "device" or over_mesh:
            return self.fetch_by_callback(indices)
        join, arguments = self.traced_join()
        return join([parent.fetch_traced for parent in self.parents], indices, arguments)

    @property
    def changes_columns(self) -> bool:
        """False: the fields of the sources are put together after they were narrowed."""
        return False

    def compiled_records(
        self,
        sharding: jax.sharding.Sharding | None = None,
        changes: Any = None,  # noqa: ARG002 - `changes_columns` is False
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """Return (function of arrays and indices, arrays) with which a compiled step reads this view."""
        compiled = [parent.compiled_records(sharding) for parent in self.parents]
        join, arguments = self.traced_join()
        leaves, form = jax.tree.flatten([arrays for _, arrays in compiled])
        held, places = _each_once(leaves)
        reads = tuple(read for read, _ in compiled)
        return JoinedRecords(join, reads, form, places), (held, self._tables.placed(arguments, sharding))

    def host_field_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the host fields at concrete ``indices``."""
        if not split_host_fields(self.element_spec())[1]:
            return {}
        parts = (
            (number, rows, self.parents[number].host_field_records(own)) for number, rows, own in self._parts(indices)
        )
        return self.merged_host_fields(parts, len(indices))

    def follows_epochs(self, number: int) -> bool:
        """Return whether a source's records are read as they are in each epoch."""
        return self.parents[number].varies_by_epoch

    # -- inside ----------------------------------------------------------------------------------------------------------------

    def _checked(self, indices: Any) -> np.ndarray:
        return record_numbers(indices, self.num_records, self.title).astype(np.int64)

    def _parts(self, indices: Any) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield (number of a source, rows of the batch, the indices by which it reads them) for each source that is read."""
        if not self.varies_by_epoch:
            yield from self.parts_of(self._checked(indices))
            return
        epochs, indices = np.divmod(np.asarray(indices, np.int64), self.num_records)
        for number, rows, own in self.parts_of(self._checked(indices)):
            source = self.parents[number]
            yield number, rows, own + source.num_records * epochs[rows] if self.follows_epochs(number) else own

    def _read(self, indices: Any, *, may_compile: bool = True) -> Batch:
        parts = (
            (number, rows, self._read_part(number, own, may_compile=may_compile))
            for number, rows, own in self._parts(indices)
        )
        return self.put_together(parts, len(indices))

    def _read_part(self, number: int, indices: np.ndarray, *, may_compile: bool) -> Batch:
        try:
            if may_compile and self.access == "host":
                return self.read_parent(indices, number)
            source = self.parents[number]
            before = source.substituted_here
            batch = source.fetch_on_host(indices)
            self.note_substituted(source.substituted_here - before)
        except Exception as error:
            error.add_note(f"while {self.title} read {len(indices)} records of {self.called(number)}")
            raise
        return batch


@dataclass(frozen=True, slots=True)
class JoinedRecords:
    """Reads the records of a view in a compiled program: those of each source, put together."""

    join: Join
    reads: tuple[Callable[[Any, jax.Array], Batch], ...]
    form: Any
    """The structure of the arrays of all sources."""
    places: tuple[int, ...]
    """The place of each of them among the arrays that are given."""

    def __call__(self, arrays: tuple[Sequence[Any], Any], indices: jax.Array) -> Batch:
        """Return the records at traced ``indices``; ``arrays`` are (arrays of the sources, arguments of the function)."""
        held, arguments = arrays
        of_sources = jax.tree.unflatten(self.form, [held[place] for place in self.places])
        reads = [functools.partial(read, own) for read, own in zip(self.reads, of_sources, strict=True)]
        return self.join(reads, indices, arguments)


def _each_once(arrays: Sequence[Any]) -> tuple[list[Any], tuple[int, ...]]:
    """Return (arrays, the place among them of each that was given), with a reference that several sources share only once.

    JAX refuses a reference that is an argument of a program twice, as that of a source beside itself, or of two parts of one.
    """
    held: list[Any] = []
    known: dict[int, int] = {}
    places = []
    for array in arrays:
        place = known.get(id(array)) if isinstance(array, jax.Ref) else None
        if place is None:
            place = known[id(array)] = len(held)
            held.append(array)
        places.append(place)
    return held, tuple(places)


@functools.partial(jax.jit, static_argnums=0)
def _gathered(read: JoinedRecords, arrays: Any, indices: Any) -> Batch:
    return read(arrays, indices)


def listed_sources(sources: Sequence[Any], title: str) -> tuple[tuple[str, ...] | None, list[Any]]:
    """Return (names, sources) of the sources that a constructor was given: one by one, as a list, or as a mapping by name."""
    if len(sources) == 1 and isinstance(sources[0], Mapping):
        for name in sources[0]:
            if not isinstance(name, str) or not name:
                raise TypeError(f"the names of the sources of {title} are text, not {name!r}")
        return tuple(sources[0]), list(sources[0].values())
    if len(sources) == 1 and isinstance(sources[0], list | tuple | nnx.List):
        sources = list(sources[0])
    if not sources:
        raise ValueError(f"{title} was given no sources; it needs one at least")
    return None, list(sources)
