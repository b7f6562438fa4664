"""Sources that keep every promise: by index, from a file, and streams with a length, with an end, and in parts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import jax
import numpy as np
from flax import nnx
from pydantic import field_validator

from datarax_core import (
    DataFileError,
    DataSourceModule,
    LocalPath,
    Order,
    Ragged,
    RecordError,
    SourceConfig,
    SourceRegistry,
    StreamingSourceBase,
)
from datarax_core.config.base import Count, NonNegative
from datarax_core.order import BatchSizes
from datarax_core.testing import Damaged, Shows, SourceConformance

SIZE = 40


def records_of(ids: Any) -> dict[str, np.ndarray]:
    ids = np.asarray(ids).astype(np.int32)
    return {"id": ids, "x": np.stack([ids * 0.5, -ids], axis=-1).astype(np.float32)}


WALK = jax.ShapeDtypeStruct((None, 2), np.dtype(np.int16))


def walk_of(number: int) -> np.ndarray:
    return np.arange(number % 4 * 2, dtype=np.int16).reshape(-1, 2) + number


class HealthyConfig(SourceConfig):
    type: Literal["kit"] = "kit"
    size: Count = SIZE


class Healthy(DataSourceModule):
    """A source of random access, on the host."""

    config_class = HealthyConfig
    config: HealthyConfig

    @classmethod
    def from_config(cls, config: SourceConfig, build: Any) -> Self:
        return cls(config, rngs=build.rngs)

    def __len__(self) -> int:
        return self.config.size

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            "id": jax.ShapeDtypeStruct((), np.dtype(np.int32)),
            "x": jax.ShapeDtypeStruct((2,), np.dtype(np.float32)),
        }

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        return records_of(indices)


class WithText(Healthy):
    """A source with host fields: text, and one of varying length."""

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {**super().element_spec(), "word": jax.ShapeDtypeStruct((), np.dtype(object)), "walk": WALK}

    def get_records(self, indices: Any) -> dict[str, Any]:
        numbers = np.asarray(indices).tolist()
        texts = np.asarray([f"number {number}" for number in numbers], object)
        walks = Ragged.from_list(list(map(walk_of, numbers)), WALK.dtype, WALK.shape)
        return {**super().get_records(indices), "word": texts, "walk": walks}


class Twice(Healthy):
    """Serves each record twice an epoch, and says so by its epochs."""

    def order(self) -> Order:
        return Order(2 * len(self))

    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:
        return self.order().record_indices(start, size, key if self.is_random_order else None) // 2

    def epochs_at(self, start: Any, size: int) -> Any:
        served = self.order().record_indices(start, size, self.order_key_data())
        return 2 * super().epochs_at(start, size) + served % 2


class FourThree(BatchSizes):
    """Batches of 4, 3, 4, 3, ... records."""

    largest, distinct = 4, (4, 3)

    def at(self, position: int) -> int:
        return 4 if position % 7 == 0 else 3

    def batches_before(self, position: int) -> int:
        return position // 7 * 2 + (position % 7 > 0) + (position % 7 > 4)

    def position_of(self, step: int) -> int:
        return step // 2 * 7 + step % 2 * 4

    def fingerprint(self) -> list[int]:
        return [4, 3]


class ByFour(FourThree):
    def position_of(self, step: int) -> int:
        return step * 4


class DecidesConfig(HealthyConfig):
    decides_batches: ClassVar[bool] = True
    size: Count = 42


class Decides(Healthy):
    """A source that decides its batches."""

    config_class = DecidesConfig
    sizes: ClassVar[BatchSizes] = FourThree()

    @property
    def batch_sizes(self) -> BatchSizes:
        return self.sizes


class ShardConfig(HealthyConfig):
    num_workers: Count = 1
    shard_id: NonNegative = 0


class Sharded(Healthy):
    """A source that is cut into shards."""

    config_class = ShardConfig
    config: ShardConfig

    def order(self) -> Order:
        return Order(len(self), self.config.shard_id, self.config.num_workers)


class TextInShards(Sharded, WithText):
    """A source with text, which is cut into shards."""


class StreamConfig(HealthyConfig):
    @field_validator("cacheable")
    @classmethod
    def _nothing_is_kept(cls, value: bool) -> bool:  # noqa: FBT001 - pydantic's signature
        if value:
            raise ValueError("a stream is read once, and has nothing to keep; leave cacheable out")
        return value


class HealthyStream(StreamingSourceBase):
    """A stream with a length, which serves each epoch in another sequence."""

    config_class = StreamConfig
    config: StreamConfig
    element_spec = Healthy.element_spec

    def __len__(self) -> int:
        return self.config.size

    def records_from(self, epoch: int, start: int) -> Iterator[dict[str, np.ndarray]]:
        for place in range(start, self.config.size):
            yield records_of((place + 7 * epoch) % self.config.size)


class Ending(StreamingSourceBase):
    """A stream without a length, which ends; a field of it varies in length."""

    config_class = StreamConfig
    config: StreamConfig

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {**HealthyStream.element_spec(self), "walk": WALK}

    def records_from(self, epoch: int, start: int) -> Iterator[dict[str, np.ndarray]]:
        for record in HealthyStream.records_from(self, epoch, start):
            yield {**record, "walk": walk_of(int(record["id"]))}


class InParts(HealthyStream):
    """A stream of which each process reads a block of every epoch."""

    def __init__(
        self,
        config: HealthyConfig,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
        part: int = 0,
        num_parts: int = 1,
    ) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.part, self.num_parts = part, num_parts

    def process_part(self, part: int, num_parts: int) -> Self | None:
        if len(self) % num_parts:
            return None
        return type(self)(self.config, part=part, num_parts=num_parts)

    def __len__(self) -> int:
        return self.config.size // self.num_parts

    def records_from(self, epoch: int, start: int) -> Iterator[dict[str, np.ndarray]]:
        first = self.part * len(self)
        for place in range(start, len(self)):
            yield records_of((first + place + 7 * epoch) % self.config.size)


class FileConfig(SourceConfig):
    type: Literal["kit_file"] = "kit_file"
    path: LocalPath


class HealthyFile(DataSourceModule):
    """A source of numbers in a file; negative numbers are damaged records."""

    config_class = FileConfig
    config: FileConfig
    element_spec = Healthy.element_spec

    def __init__(self, config: FileConfig, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.table = Table(self.ids_in(config.path))

    @staticmethod
    def ids_in(path: str) -> np.ndarray:
        try:
            ids: np.ndarray = np.load(path)
        except ValueError as error:
            raise DataFileError(path, f"{path} is no .npy file of numbers") from error
        except EOFError as error:
            raise DataFileError(path, f"{path} is empty") from error
        return ids

    def __len__(self) -> int:
        return len(self.table.ids)

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        ids = self.table.ids[np.asarray(indices)]
        if (ids < 0).any():
            record = int(np.asarray(indices)[ids < 0][0])
            raise RecordError(
                f"record {record} of {self.config.path} is negative",
                record=record,
                reason="negative",
                path=self.config.path,
            )
        return records_of(ids)


class Grouped(HealthyFile):
    """Reads records in groups of four; a negative number damages its group."""

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        for record in np.asarray(indices).tolist():
            group = range(record // 4 * 4, record // 4 * 4 + 4)
            if (self.table.ids[list(group)] < 0).any():
                raise DataFileError(
                    self.config.path, f"records {group[0]} to {group[-1]} of {self.config.path} are damaged"
                )
        return records_of(self.table.ids[np.asarray(indices)])


class Table:
    """Data that a source holds outside of its nnx graph."""

    def __init__(self, ids: np.ndarray) -> None:
        self.ids = ids


class Conformance(SourceConformance):
    """Declarations of a source that is registered by hand."""

    source_class: type[Any] = Healthy
    config = {"type": "kit", "stochastic": True, "stream_name": "order"}
    expected_length = SIZE
    expected_records = {row: {"id": row, "x": [row * 0.5, -row]} for row in (0, 1, SIZE - 2)}

    @property
    def registry(self) -> SourceRegistry:
        registry = SourceRegistry()
        registry.register(self.source_class)
        return registry


class DecidesConformance(Conformance):
    """Declarations of a source that decides its batches."""

    config = {"type": "kit"}
    expected_length = 42
    expected_records = {7: {"id": 7}}


class TextConformance(Conformance):
    expected_records = {7: {"id": 7, "x": [3.5, -7.0], "word": "number 7"}}


class TwiceConformance(Conformance):
    every_record_once = False


class ShardConformance(Conformance):
    effective = {"num_workers": Shows(value=2), "shard_id": Shows(value=1, needs={"num_workers": 2})}


class TextInShardsConformance(ShardConformance):
    """Declares some of the fields of a record."""

    expected_records = {7: {"word": "number 7"}, 8: {"id": 8}}


class StreamConformance(Conformance):
    """Declarations of a stream in sequence."""

    config = {"type": "kit"}


class FileConformance(Conformance):
    """Declarations of a source of a file, which it writes."""

    def make_config(self, folder: Path) -> Mapping[str, Any]:
        np.save(folder / "ids.npy", np.arange(SIZE))
        return {"type": "kit_file", "path": str(folder / "ids.npy")}


class GroupedConformance(FileConformance):
    def make_damaged(self, folder: Path) -> Damaged:
        path = folder / "grouped.npy"
        np.save(path, np.where(np.arange(SIZE) == 9, -1, np.arange(SIZE)))
        return Damaged(config={"type": "kit_file", "path": str(path)}, records=[8, 9, 10, 11], path=path)
