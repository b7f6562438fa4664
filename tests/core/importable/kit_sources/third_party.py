"""Sources as third parties write them from the documents, with one fault each, under the test that must fail first."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core import (
    DataFileError,
    DataSourceModule,
    EagerSourceBase,
    LocalPath,
    Order,
    Ragged,
    RecordError,
    SourceConfig,
    SourceRegistry,
    SourceView,
    StreamingSourceBase,
)
from datarax_core.config import Count, Shuffling
from datarax_core.order import record_numbers
from datarax_core.registry import AnySource
from datarax_core.sources import columns_of
from datarax_core.testing import Damaged, SourceConformance

COUNT: Final = 60
ID = jax.ShapeDtypeStruct((), np.dtype(np.int32))
IMAGE = jax.ShapeDtypeStruct((4, 4), np.dtype(np.float32))


def rows_of(ids: Any) -> dict[str, np.ndarray]:
    ids = np.asarray(ids).astype(np.int32)
    return {"id": ids, "image": (ids[:, None, None] + np.arange(16).reshape(4, 4)).astype(np.float32)}


class Held:
    """Something that a source holds outside of its nnx graph."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Config(SourceConfig):
    type: Literal["third"] = "third"
    shuffle: Shuffling = False


class Images(DataSourceModule):
    """Right: records by index."""

    config_class = Config

    def __len__(self) -> int:
        return COUNT

    def element_spec(self) -> Any:
        return {"id": ID, "image": IMAGE}

    def get_records(self, indices: Any) -> Any:
        return rows_of(record_numbers(indices, len(self), self.title))


class Conformance(SourceConformance):
    source_class: type[Any] = Images
    parents: tuple[type[Any], ...] = ()
    config = {"type": "third", "shuffle": True}

    @property
    def registry(self) -> SourceRegistry:
        registry = SourceRegistry()
        for source in (self.source_class, *self.parents):
            registry.register(source)
        return registry


FIRST: Final[dict[str, str]] = {}
"""For each test class, the test that must fail first; "" if none fails."""


def breaks(first: str, base: type[Any] = Conformance, **declared: Any) -> Callable[[type[Any]], type[Any]]:
    """Declare a test class of a source, of which ``first`` must fail first."""

    def declare(source: type[Any]) -> type[Any]:
        name = f"Test{source.__name__}"
        globals()[name] = type(name, (base,), {**declared, "source_class": source, "__module__": __name__})
        FIRST[name] = first
        return source

    return declare


# -- by index ---------------------------------------------------------------------------------------------------------------


@breaks("test_length_is_the_expected_one", expected_length=COUNT)
class ForgetsTheLast(Images):
    def __len__(self) -> int:
        return COUNT - 1


@breaks("test_the_element_spec_is_true")
class SaysAnotherDtype(Images):
    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.dtype(np.int64)), "image": IMAGE}


@breaks("test_the_element_spec_is_true")
class SaysFewerFields(Images):
    def element_spec(self) -> Any:
        return {"id": ID}


@breaks("test_a_batch_is_its_records_in_the_order_asked_for")
class DependsOnCalls(Images):
    def __init__(self, config: Any, *, rngs: Any = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.calls = Held(0)

    def get_records(self, indices: Any) -> Any:
        self.calls.value += 1
        batch = super().get_records(indices)
        return {**batch, "id": batch["id"] + np.int32(self.calls.value % 2)}


@breaks("test_a_batch_that_was_given_away_is_left_alone")
class ReadsIntoOneBuffer(Images):
    def __init__(self, config: Any, *, rngs: Any = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.buffer = Held(np.empty((256, 4, 4), np.float32))

    def get_records(self, indices: Any) -> Any:
        batch = super().get_records(indices)
        image = self.buffer.value[: len(batch["id"])]
        image[:] = batch["image"]
        return {**batch, "image": image}


class LimitConfig(Config):
    limit: Count = 100


@breaks("test_every_option_is_refused_or_has_an_effect")
class IgnoresALimit(Images):
    config_class = LimitConfig


@breaks("test_an_index_out_of_range_is_named")
class TakesAnyIndex(Images):
    def get_records(self, indices: Any) -> Any:
        return rows_of(np.asarray(indices) % COUNT)

    def __getitem__(self, index: Any) -> Any:
        return {name: column[0] for name, column in rows_of([index % COUNT]).items()}

    def __getitems__(self, indices: Any) -> list[Any]:
        return [self[index] for index in indices]


@breaks("test_an_epoch_serves_every_record_once")
class DrawsWithReplacement(Images):
    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:
        return super().record_indices_at(start, size, key) * 7 % 49  # as a cheap hash does


@breaks("test_another_seed_is_another_order")
class IgnoresItsSeed(Images):
    def draw_order_key(self, rngs: Any) -> np.ndarray:  # noqa: ARG002 - ignoring the argument is the fault
        return np.asarray([1, 2], np.uint32)


@breaks("test_an_epoch_serves_every_record_once")
class RepeatsItsEpoch(Images):
    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:
        if isinstance(start, jax.core.Tracer):
            return super().record_indices_at(start % COUNT, size, key)
        return np.asarray(super().record_indices_at(0, COUNT, key))[np.arange(start, start + size) % COUNT]


@breaks("test_it_pickles_where_it_stands")
class HoldsAFunction(Images):
    def __init__(self, config: Any, *, rngs: Any = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.decode = Held(lambda value: value)


@breaks("test_threads_read_it_at_once")
class SharesItsPlace(Images):
    def __init__(self, config: Any, *, rngs: Any = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.place = Held(0)

    def get_records(self, indices: Any) -> Any:
        found = []
        for index in record_numbers(indices, len(self), self.title).tolist():
            self.place.value = index
            if threading.current_thread() is not threading.main_thread():
                time.sleep(1e-4)  # as a read does
            found.append(self.place.value)
        return rows_of(found)


@breaks("test_a_pipeline_s_loop_serves_its_order")
class RoundsOnTheDevice(Images):
    traceable = True

    def get_records(self, indices: Any) -> Any:
        if not isinstance(indices, jax.core.Tracer):
            return super().get_records(indices)
        ids = indices.astype(jnp.int32)
        return {"id": ids // 8 * 8, "image": (ids[:, None, None] + jnp.arange(16).reshape(4, 4)).astype(jnp.float32)}


@breaks("test_calls_of_a_source_in_any_order_serve_its_order")
class MovedByItsCopies(Images):
    def copy(self, **replaced: Any) -> Self:
        twin = super().copy(**replaced)
        self.cursor.move(twin.cursor.position)
        return twin


# -- of files ---------------------------------------------------------------------------------------------------------------


@breaks("test_a_batch_is_its_records_in_the_order_asked_for")
class SortsWhatComesTwice(Images):
    def get_records(self, indices: Any) -> Any:
        return super().get_records(
            indices if len(set(np.asarray(indices).tolist())) == len(indices) else np.sort(indices)
        )


@breaks("test_a_batch_is_its_records_in_the_order_asked_for")
class SortsTheIndicesItIsGiven(Images):
    def get_records(self, indices: Any) -> Any:
        batch = super().get_records(indices)
        np.asarray(indices).sort()
        return batch


@breaks("test_a_batch_is_its_records_in_the_order_asked_for")
class KeepsBatchesByObject(Images):
    """Keeps the last batch of an array, which the caller may write to."""

    def __init__(self, config: Any, *, rngs: Any = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.last = Held((None, None))

    def get_records(self, indices: Any) -> Any:
        if self.last.value[0] is not indices:
            self.last.value = indices, super().get_records(indices)
        return self.last.value[1]


@breaks("test_it_is_read_by_a_spawned_process")
class HashesText(Images):
    def fingerprint(self) -> dict[str, Any]:
        return {**super().fingerprint(), "images": hash("the images of 2021")}


@breaks("test_a_copy_starts_over")
class ForgetsItsLength(Images):
    """Of records that are given to the constructor, of which copy() hears nothing."""

    def __init__(self, config: Any, count: int = COUNT + 1, *, rngs: Any = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.count = count

    @classmethod
    def from_config(cls, config: Any, build: Any) -> Self:
        return cls(config, COUNT, rngs=build.rngs)

    def __len__(self) -> int:
        return self.count


class FileConfig(Config):
    path: LocalPath


class File(Images):
    """Right: numbers in a file, of which a negative one is damaged."""

    config_class = FileConfig

    def __init__(self, config: Any, *, rngs: Any = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        try:
            self.ids = Held(np.load(config.path))
        except (ValueError, EOFError) as error:
            raise DataFileError(config.path, f"{config.path} is no .npy file of numbers") from error

    def __len__(self) -> int:
        return len(self.ids.value)

    def get_records(self, indices: Any) -> Any:
        records = record_numbers(indices, len(self), self.title)
        ids = self.ids.value[records]
        for record in records[ids < 0]:
            self.refuse(int(record))
        return rows_of(ids)

    def refuse(self, record: int) -> None:
        path = self.config.path
        raise RecordError(f"record {record} of {path} is bad", record=record, reason="negative", path=path)


class FileConformance(Conformance):
    def make_config(self, folder: Path) -> Mapping[str, Any]:
        np.save(folder / "x.npy", np.arange(COUNT))
        np.save(folder / "other.npy", np.arange(COUNT)[::-1])
        self.effective = {"path": str(folder / "other.npy")}
        return {"type": "third", "path": str(folder / "x.npy"), "shuffle": True}

    def make_damaged(self, folder: Path) -> Damaged:
        np.save(folder / "damaged.npy", np.where(np.arange(COUNT) == 7, -1, np.arange(COUNT)))
        return Damaged(config={"type": "third", "path": str(folder / "damaged.npy")}, record=7)


@breaks("test_a_damaged_record_is_named", FileConformance)
class NamesNoRecord(File):
    def refuse(self, record: int) -> None:  # noqa: ARG002 - the fault
        raise ValueError(f"{self.config.path} is damaged")


@breaks("test_a_state_of_other_records_is_refused", FileConformance)
class LooksAtNoContent(File):
    def fingerprint(self) -> dict[str, Any]:
        return {name: value for name, value in super().fingerprint().items() if name in ("source", "length", "seed")}


@breaks("test_a_state_fits_the_same_files_elsewhere", FileConformance)
class LooksAtItsPath(File):
    def fingerprint(self) -> dict[str, Any]:
        return {**super().fingerprint(), "files": [str(self.config.path)]}


# -- in memory --------------------------------------------------------------------------------------------------------------


@breaks("test_another_key_is_another_order", shown_elsewhere={"cacheable": "all of it is in memory"})
class ShufflesAlike(EagerSourceBase):
    config_class = Config

    def __init__(self, config: Any, *, rngs: Any = None, name: str | None = None) -> None:
        super().__init__(config, columns_of(rows_of(np.arange(COUNT)), "the images"), rngs=rngs, name=name)

    def constructor_data(self) -> tuple[()]:
        return ()

    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:  # noqa: ARG002 - the fault
        return super().record_indices_at(start, size, np.asarray([1, 2], np.uint32))


# -- streams ----------------------------------------------------------------------------------------------------------------


class Stream(StreamingSourceBase):
    """Right: a shuffled stream with a length, in parts."""

    config_class = Config
    element_spec = Images.element_spec

    def __init__(
        self, config: Any, *, rngs: Any = None, name: str | None = None, part: int = 0, num_parts: int = 1
    ) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.part, self.num_parts = part, num_parts

    def process_part(self, part: int, num_parts: int) -> Self | None:
        if COUNT % num_parts:
            return None
        return type(self)(self.config, rngs=nnx.clone(self.rngs), part=part, num_parts=num_parts)

    def __len__(self) -> int:
        return COUNT // self.num_parts

    def ids(self, epoch: int) -> list[int]:
        order = Order(COUNT).record_indices(epoch * COUNT, COUNT, self.order_key_data())
        return order.tolist()[self.part * len(self) :][: len(self)]

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:
        for number in self.ids(epoch)[start:]:
            yield {name: column[0] for name, column in rows_of([number]).items()}


@breaks("test_a_state_resumes_exactly_at_every_step")
class ResumesALittleLate(Stream):
    def records_from(self, epoch: int, start: int) -> Iterator[Any]:
        return super().records_from(epoch, start + (start > 0))

    def process_part(self, part: int, num_parts: int) -> None:
        """Return None: each process reads all."""


@breaks("test_hosts_share_every_batch")
class GivesAllTheHead(Stream):
    def ids(self, epoch: int) -> list[int]:
        order = Order(COUNT).record_indices(epoch * COUNT, COUNT, self.order_key_data())
        return order.tolist()[: len(self)]


@breaks("test_hosts_share_every_batch")
class DropsTheRest(Stream):
    def process_part(self, part: int, num_parts: int) -> Self:
        return type(self)(self.config, rngs=nnx.clone(self.rngs), part=part, num_parts=num_parts)


@breaks("test_an_epoch_is_as_long_as_its_length_says")
class ShortInLaterEpochs(Stream):
    def records_from(self, epoch: int, start: int) -> Iterator[Any]:
        for number in self.ids(epoch)[start : len(self) - (epoch > 0)]:
            yield {name: column[0] for name, column in rows_of([number]).items()}


# -- of any length, and views -----------------------------------------------------------------------------------------------


@breaks("test_a_batch_is_its_records_in_the_order_asked_for")
class CutsInSequence(Images):
    """Cuts tokens as if the records of a batch were neighbours."""

    def element_spec(self) -> Any:
        return {"tokens": jax.ShapeDtypeStruct((None,), np.dtype(np.int32))}

    def get_records(self, indices: Any) -> Any:
        whole = [np.arange(number % 7, dtype=np.int32) + number for number in range(COUNT)]
        values, starts = np.concatenate(whole), np.cumsum([0, *map(len, whole)])
        records = record_numbers(indices, len(self), self.title)
        at, rows = starts[records[0]], []
        for record in records:
            rows.append(values[at : at + len(whole[record])])
            at += len(whole[record])
        return {"tokens": Ragged.from_list(rows, np.int32, (None,))}


class ViewConfig(SourceConfig):
    type: Literal["third_view"] = "third_view"
    source: AnySource | None = None


@breaks(
    "test_a_batch_is_its_records_in_the_order_asked_for",
    parents=(Images,),
    config={"type": "third_view", "source": {"type": "third", "shuffle": True}},
    effective={"source": {"type": "third"}},
)
class SortsItsParent(SourceView):
    """Every second record, read in the order of the parent."""

    config_class = ViewConfig
    renumbers = True

    @classmethod
    def from_config(cls, config: Any, build: Any) -> Self:
        return cls(config, build(config.source), rngs=build.rngs)

    def __len__(self) -> int:
        return COUNT // 2

    def parent_indices(self, indices: np.ndarray) -> np.ndarray:
        return np.sort(indices * 2)
