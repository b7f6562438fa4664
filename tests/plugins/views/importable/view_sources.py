"""Views as users write them, and the sources that they are made of, for tests and for the worker processes of tests."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from flax import nnx

from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule
from datarax_core import DataSourceModule, SourceConfig, SourceView, StreamingSourceBase, StructuralConfig
from datarax_core.records import Batch, Ragged
from datarax_core.registry import ViewConfig
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode

COUNT = 37
IDS = np.arange(COUNT)
COLUMNS = {"id": IDS, "x": np.stack([IDS * 0.5, -IDS], axis=1), "label": IDS % 5}
NUMBERED = {"id": IDS.astype(np.int32), "epoch": IDS.astype(np.int32)}
TEXTS = {
    "text": np.array([f"record {i}" for i in IDS], object),
    "tokens": Ragged.from_list([IDS[: i % 7] for i in IDS]),
}


class LoggedConfig(ViewConfig):
    type: Literal["logged"] = "logged"


class Logged(SourceView):
    """A wrapper that counts the reads of the host."""

    config_class: ClassVar = LoggedConfig

    reads: ClassVar[list[int]] = []

    def read_parent(self, indices: np.ndarray, parent: int = 0) -> Batch:
        self.reads.append(len(indices))
        return super().read_parent(indices, parent)


class EveryOtherConfig(ViewConfig):
    type: Literal["every_other"] = "every_other"


class EveryOther(SourceView):
    """An index view: the records at odd indices."""

    config_class: ClassVar = EveryOtherConfig
    renumbers: ClassVar[bool] = True

    def __len__(self) -> int:
        return self.parent.num_records // 2

    def parent_indices(self, indices: np.ndarray) -> np.ndarray:
        return 2 * indices + 1

    def traced_map(self) -> Any:
        return odd, ()


def odd(arguments: Any, indices: jax.Array) -> jax.Array:  # noqa: ARG001 - it needs none
    return 2 * indices + 1


class LookedUp(EveryOther):
    """The same by a table of thousands of entries, of which the first are used."""

    def __init__(self, config: StructuralConfig, *parents: DataSourceModule, **options: Any) -> None:
        super().__init__(config, *parents, **options)
        self._rows = Table(np.arange(1, 10_001, 2, dtype=np.int32))

    def parent_indices(self, indices: np.ndarray) -> np.ndarray:
        return self._rows.rows[indices]

    def traced_map(self) -> Any:
        return at, self._rows.rows


class Table:
    """An array that flax takes for a static value."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and np.array_equal(self.rows, other.rows)

    def __hash__(self) -> int:
        return hash(self.rows.tobytes())


def at(rows: jax.Array, indices: jax.Array) -> jax.Array:
    return rows[indices]


class Pairs(SourceView):
    """A view that makes records: the ids of two neighbours."""

    config_class: ClassVar = LoggedConfig
    renumbers: ClassVar[bool] = True

    def __len__(self) -> int:
        return self.parent.num_records // 2

    def element_spec(self) -> Any:
        one = self.parent.element_spec()["id"]
        return {"ids": jax.ShapeDtypeStruct((2,), one.dtype)}

    def get_records(self, indices: np.ndarray) -> Batch:
        rows = (2 * indices[:, None] + np.arange(2)).ravel()
        return {"ids": self.read_parent(rows)["id"].reshape(len(indices), 2)}


class NumbersConfig(SourceConfig):
    type: Literal["numbers"] = "numbers"


class Numbers(StreamingSourceBase):
    """A stream of records with the epoch in each."""

    config_class: ClassVar = NumbersConfig
    sized: ClassVar[bool] = False

    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.int32), "epoch": jax.ShapeDtypeStruct((), np.int32)}

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:
        for index in itertools.islice(range(COUNT), start, None):
            yield {"id": np.int32(index), "epoch": np.int32(epoch)}


class SizedNumbers(Numbers):
    """The same, with a length."""

    def __len__(self) -> int:
        return COUNT


def memory(columns: dict[str, Any] = COLUMNS, **options: Any) -> MemorySource:
    return MemorySource(MemorySourceConfig(**options), columns, rngs=nnx.Rngs(3))


def mixture(*children: DataSourceModule, **options: Any) -> MixDataSourcesNode:
    weights = [float(number + 1) for number in range(len(children))]
    config = MixDataSourcesConfig(num_sources=len(children), weights=weights, **options)
    return MixDataSourcesNode(config, list(children), rngs=nnx.Rngs(5), name="mix")


def array_record(folder: Path) -> ArrayRecordSourceModule:
    path = folder / "data.array_record"
    if not path.exists():
        ArrayRecordSourceModule.write_records(str(path), memory())
    return ArrayRecordSourceModule(ArrayRecordSourceConfig(paths=(str(path),), shuffle=True))


PARENTS: dict[str, Callable[[Path], DataSourceModule]] = {
    "on the device": lambda _: memory(shuffle=True),
    "on the host": lambda _: memory(shuffle=True, placement="host"),
    "text and ragged": lambda _: memory(TEXTS | {"id": IDS}, shuffle=True),
    "array record": array_record,
    "mixture": lambda _: mixture(memory(shuffle=True), memory()),
    "mixture on the host": lambda folder: mixture(memory(), array_record(folder)),
    "drawn mixture": lambda _: mixture(memory(), memory(shuffle=True), sampling="categorical"),
    "part": lambda _: memory(shuffle=True)[3:30:2],
    "view": lambda _: EveryOther(EveryOtherConfig(), memory(shuffle=True)),
    "stream": lambda _: Numbers(NumbersConfig()),
    "stream with a length": lambda _: SizedNumbers(NumbersConfig()),
    "mixture with a stream": lambda _: mixture(SizedNumbers(NumbersConfig()), memory(NUMBERED, shuffle=True)),
}
