"""Sources over objects with ``len()`` and an index: lists, Grain's ``MapDataset``, PyTorch's and Hugging Face's data sets."""

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

import jax
import numpy as np
from flax import nnx
from pydantic import Field

from datarax_core.config.models import StructuralConfig
from datarax_core.config.shuffling import Shuffling
from datarax_core.errors import SpecError
from datarax_core.order.numbers import seed_number
from datarax_core.records.elements import batch_of, spec_of_first_elements
from datarax_core.records.foreign_data import require_records
from datarax_core.records.reused import Watch
from datarax_core.records.spec import Batch, ElementSpec

from .access import warn_of_one_epoch
from .source import DataSourceModule

_ABSURD: Final = 2**40  # more records than any data set has; such a length comes from a `repeat()` without an end


class SequenceSourceConfig(StructuralConfig):
    """Settings of a `SequenceSource`."""

    shuffle: Shuffling = Field(
        default=False, description="Serve each epoch in a shuffled order; makes the source stochastic."
    )


class SequenceSource(DataSourceModule):
    """The records of another library's data set, read on the host when they are served.

    A batch is read in one call if the data set supports that (``__getitems__``, or Grain's `MapDataset`), else one by one.
    Dicts and tuples, nested or not, are the structure of a record. Every other value is a field, in the dtype that NumPy gives
    it: Python integers are int64, floats float64, text and bytes are objects. Fields of varying length are ragged columns.

    Args:
        config: The settings; with ``cacheable``, each record is read once.
        data: Has a length, and an element at each index. It is not copied.
        element_spec: The spec of one record, with None for each axis that varies from record to record; None reads the first
            record and uses its spec. If it has fields with axes, seven more are read, to see which of their axes vary.
        thread_safe: Whether several threads may read ``data`` at once, as a pipeline does where reading waits. False for an
            object that keeps a position while it reads, such as one open file.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``.
        name: Name of this source in errors.

    Raises:
        TypeError: ``data`` has no length or no index.
        ValueError: ``data`` has no end.
    """

    config: SequenceSourceConfig

    def __init__(
        self,
        config: SequenceSourceConfig,
        data: Any,
        *,
        element_spec: ElementSpec | None = None,
        thread_safe: bool = True,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(config, SequenceSourceConfig):
            raise TypeError(f"{type(self).__name__} needs a SequenceSourceConfig, not {config!r:.80}")
        super().__init__(config, rngs=rngs, name=name)
        self._elements = data if isinstance(data, _Elements) else _Elements(data, element_spec, self.title)
        if not isinstance(thread_safe, bool):
            raise TypeError(f"thread_safe of {self.title} is True or False, not {thread_safe!r:.80}")
        if not thread_safe:
            self._elements.thread_safe = False
        reason = "cacheable=True keeps them" if config.cacheable and self._elements.epochs.vary else ""
        if reason := reason or self._elements.epochs.refusal:
            warn_of_one_epoch(self.title, reason)

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may read the data set at once."""
        return self._elements.thread_safe

    @property
    def data(self) -> Any:
        """The data set that was passed."""
        return self._elements.data

    @property
    def length(self) -> int:
        """Number of records."""
        return self._elements.length

    def __len__(self) -> int:
        return self.length

    def element_spec(self) -> ElementSpec:
        """Return the spec of one record: the spec that was passed, or that of the first records.

        Raises:
            ValueError: No spec was passed, and there are no records.
        """
        return self._elements.spec(self.title)

    @property
    def varies_by_epoch(self) -> bool:
        """Whether the data set is a random Grain ``MapDataset``, which is asked for ``index + len() * epoch``."""
        return self._elements.epochs.vary and not self.config.cacheable

    @property
    def reorders_by_epoch(self) -> bool:
        """Whether the data set is a Grain ``MapDataset`` that is shuffled or mixed anew in each epoch."""
        return self._elements.epochs.reorder

    def get_records(self, indices: Any) -> Batch:
        """Return the records at concrete ``indices`` as NumPy arrays.

        Raises:
            IndexError: An index is out of range.
            SpecError: A record is None or differs from the element spec; names record and field.
            Exception: An error of the data set, with a note that names the record.
        """
        indices = np.asarray(indices)
        outside = indices < 0
        if not self.varies_by_epoch:
            outside |= indices >= self.length  # some data sets would take these modulo their length
        if outside.any():
            raise IndexError(f"record {indices[outside][0]} is out of range: {self.title} has {self.length} records")
        spec = self.element_spec()
        elements = self._elements.read(indices, self.title)
        return batch_of(elements, spec, lambda row: f"record {indices[row] % self.length} of {self.title}")

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the data set, with its length and element spec."""
        return (self._elements,)


def from_sequence(
    data: Any,
    *,
    shuffle: bool = False,
    seed: int = 0,
    element_spec: ElementSpec | None = None,
    thread_safe: bool = True,
    name: str | None = None,
) -> SequenceSource:
    """Return a `SequenceSource` over a data set that has a length and an index.

    With ``shuffle``, the order of each epoch is drawn from ``seed``. With ``thread_safe=False`` one thread reads it at a time.
    """
    config = SequenceSourceConfig(shuffle=shuffle)
    rngs = nnx.Rngs(seed_number(seed))
    return SequenceSource(config, data, element_spec=element_spec, thread_safe=thread_safe, rngs=rngs, name=name)


class _Elements:
    """A data set with its length and element spec; shared by the copies of a source, and outside of their graphs."""

    thread_safe = True  # also of pickles that do not say
    is_reused = False  # whether elements are written into the arrays of those before
    _reads_to_watch = 2

    def __init__(self, data: Any, spec: ElementSpec | None, title: str) -> None:
        self.data = data
        self.length = _length(data, title)
        self._spec = None if spec is None else _checked_spec(spec, title)

    @functools.cached_property
    def epochs(self) -> "GrainEpochs":
        """What another epoch changes in the data set."""
        return GrainEpochs.of(self.data)

    def spec(self, title: str) -> ElementSpec:
        if self._spec is None:
            if not self.length:
                raise ValueError(f"{title} is empty: it has no record that says what records look like")
            # By the access that batches are read by: with_format("numpy") of Hugging Face gives other dtypes one by one.
            self._spec = spec_of_first_elements(lambda rows: self.read(np.asarray(rows), title), self.length, title)
        return self._spec

    def read(self, indices: np.ndarray, title: str) -> Sequence[Any]:
        """Return the elements at ``indices``; a note on an error of the data set names the record.

        Raises:
            RuntimeError: The data set raised ``StopIteration``, on which a caller's loop would end.
        """
        try:
            return self._read(indices.tolist(), title)
        except StopIteration as error:
            raise RuntimeError(f"{title} raised StopIteration for records that its length says it has") from error

    def _read(self, rows: list[int], title: str) -> Sequence[Any]:
        read_batch = _batched(self.data)
        if read_batch is None:
            return self._read_one_by_one(rows, title)
        try:
            elements = read_batch(rows)
        except Exception as error:
            failing = next((row for row in rows if self._fails(row)), None)
            where = f"one of the records {rows!r:.80}" if failing is None else f"record {failing % self.length}"
            error.add_note(f"while {title} read {where} of its {type(self.data).__name__}")
            raise
        if isinstance(elements, Mapping) or len(elements) != len(rows):
            raise SpecError(
                f"{title} asked its {type(self.data).__name__} for {len(rows)} elements in one call and was given "
                f"{type(elements).__name__} of {len(elements)}; __getitems__ returns a list with one element for each index"
            )
        return elements  # type: ignore[no-any-return]  # it has a length

    def _read_one_by_one(self, rows: list[int], title: str) -> Sequence[Any]:
        """Return the elements one by one; copies of them, if the data set writes each into the arrays of the one before."""
        if not (self._reads_to_watch or self.is_reused) or len(rows) < 2:
            return [self._read_one(row, title) for row in rows]
        if len(set(rows)) < len(rows) and not self.is_reused:  # one element twice shares its memory with itself
            return [self._read_one(row, title) for row in rows]
        watch = Watch(is_reused=self.is_reused)
        elements = [watch.seen(self._read_one(row, title)) for row in rows]
        self.is_reused = self.is_reused or watch.is_reused
        self._reads_to_watch = max(0, self._reads_to_watch - 1)
        return elements

    def _read_one(self, index: int, title: str) -> Any:
        try:
            return self.data[index]
        except Exception as error:
            error.add_note(f"while {title} read record {index % self.length} of its {type(self.data).__name__}")
            raise

    def _fails(self, index: int) -> bool:
        try:
            self.data[index]
        except Exception:  # noqa: BLE001 - only whether it fails matters here; the first error is raised
            return True
        return False


def _length(data: Any, title: str) -> int:
    require_records(data, title)
    hint = "pass a list, or a data set that has len() and gives the element at each index 0, 1, ..."
    if isinstance(data, str | bytes | bytearray | Mapping):
        columns = "pass a dict of columns to MemorySource(config, data); here, " if isinstance(data, Mapping) else ""
        raise TypeError(f"{title} was given a {type(data).__name__}; {columns}{hint}")
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise TypeError(f"{title} was given a {type(data).__name__}, which has no len() or no index; {hint}")
    length = len(data)
    if _is_endless(data, length):
        raise ValueError(
            f"{title} was given a {type(data).__name__} without an end; leave out its repeat(): a pipeline repeats, with "
            "num_epochs=None without end"
        )
    return length


def _is_endless(data: Any, length: int) -> bool:
    """Return whether the data set, or one that it is derived from, is a Grain ``repeat()`` without an end."""
    if length >= sys.maxsize:
        return True
    return length > _ABSURD and any(_is_endless(parent, len(parent)) for parent in _grain_parents(data))


def _grain_parents(data: Any) -> Sequence[Any]:
    return getattr(data, "parents", ()) if _is_map_dataset(data) else ()


def _is_map_dataset(data: Any) -> bool:
    """Return whether ``data`` is a Grain `MapDataset`; compares names, so that Grain need not be installed."""
    return any(cls.__name__ == "MapDataset" and cls.__module__.startswith("grain.") for cls in type(data).__mro__)


def _batched(data: Any) -> Callable[[list[int]], Any] | None:
    """Return the method of a data set that reads many elements at once; None if there is none.

    Grain calls it ``_getitems``; in classes of other libraries, a method of this private name may do anything.
    """
    name = "_getitems" if _is_map_dataset(data) else "__getitems__"
    read = getattr(data, name, None)
    return read if callable(read) else None


def _checked_spec(spec: ElementSpec, title: str) -> ElementSpec:
    leaves = jax.tree.leaves(spec)
    if not leaves or not all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        raise TypeError(f"the element_spec of {title} has a jax.ShapeDtypeStruct for each field, not {spec!r:.80}")
    return spec


# -- epochs of Grain's data sets -----------------------------------------------------------------------------------------

_CONSTANT: Final = frozenset({
    "BatchMapDataset", "ConcatenateMapDataset", "FilterMapDataset", "MapMapDataset", "RangeMapDataset", "RepeatMapDataset",
    "SliceMapDataset", "SourceMapDataset", "ZipMapDataset", "_WithSeedMapDataset",
})  # fmt: skip
"""Grain's classes whose elements are alike in all epochs."""

_IN_PLACE: Final = _CONSTANT | {"RandomMapMapDataset", "MapWithIndexMapDataset"}
"""Grain's classes that leave each element at its index, although it may differ from epoch to epoch."""


class GrainEpochs(NamedTuple):
    """What another epoch changes in a Grain `MapDataset` of n elements: element i of an epoch is ``data[i + n * epoch]``."""

    vary: bool = False
    """Whether elements differ from epoch to epoch."""

    reorder: bool = False
    """Whether an index stands for another element in another epoch, as after a ``shuffle``."""

    refusal: str = ""
    """Why the random elements of the first epoch are served in all epochs."""

    @classmethod
    def of(cls, data: Any) -> Self:
        """Return what another epoch changes in ``data``; nothing, in data of other libraries."""
        nodes = list(_grain_nodes(data)) if _is_map_dataset(data) else []
        names = {type(node).__name__ for node in nodes}
        if names <= _CONSTANT:
            return cls()
        if any(type(node).__name__ == "SliceMapDataset" and _reorders(node) for node in nodes):
            is_random = "RandomMapMapDataset" in names
            return cls(refusal="in the next, this slice of a shuffle has records of other slices" if is_random else "")
        return cls(vary=True, reorder=_reorders(data))


def _grain_nodes(data: Any) -> Iterator[Any]:
    yield data
    for parent in _grain_parents(data):
        yield from _grain_nodes(parent)


def _reorders(data: Any) -> bool:
    return not {type(node).__name__ for node in _grain_nodes(data)} <= _IN_PLACE
