"""Right sources of unusual kinds, against which the kit has nothing to say."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core import (
    DataSourceModule,
    LocalPath,
    Ragged,
    SourceConfig,
    SourceRegistry,
    SourceView,
    StreamingSourceBase,
)
from datarax_core.config import Count, NonNegative, Shuffling
from datarax_core.order import record_numbers
from datarax_core.registry import AnySource
from datarax_core.sources import HostState
from datarax_core.testing import Shows, SourceConformance

ID = jax.ShapeDtypeStruct((), np.dtype(np.int32))


class Conformance(SourceConformance):
    source_class: type[Any]
    parents: tuple[type[Any], ...] = ()

    @property
    def registry(self) -> SourceRegistry:
        registry = SourceRegistry()
        for source in (self.source_class, *self.parents):
            registry.register(source)
        return registry


# -- text in several files --------------------------------------------------------------------------------------------------


class TextConfig(SourceConfig):
    type: Literal["unusual_text"] = "unusual_text"
    folder: LocalPath
    shard_id: NonNegative = 0
    num_workers: Count = 1


class TextLines(StreamingSourceBase):
    """A stream of unknown length over the lines of files, dealt out to shards, and to processes."""

    config_class = TextConfig
    part, num_parts = 0, 1

    def __init__(self, config: Any, *, rngs: Any = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.paths = tuple(sorted(map(str, Path(config.folder).glob("*.txt"))))[config.shard_id :: config.num_workers]
        if not Path(config.folder).is_dir():
            raise FileNotFoundError(f"no folder {config.folder}")

    def element_spec(self) -> Any:
        return {"text": jax.ShapeDtypeStruct((), np.dtype(object))}

    def process_part(self, part: int, num_parts: int) -> Self:
        twin = self.copy()
        twin.part, twin.num_parts = part, num_parts
        return twin

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:  # noqa: ARG002 - each epoch is alike
        lines = [line for path in self.paths for line in Path(path).read_text(encoding="utf-8").splitlines()]
        for line in lines[self.part :: self.num_parts][start:]:
            yield {"text": line}


class TestTextLines(Conformance):
    source_class = TextLines
    expected_records = {1: {"text": "line 1 of file 0"}}
    effective = {"num_workers": Shows(value=2), "shard_id": Shows(value=1, needs={"num_workers": 2})}

    def make_config(self, folder: Path) -> Mapping[str, Any]:
        for file in range(3):
            lines = [f"line {number} of file {file}\n" for number in range(15 + file)]
            (folder / f"part-{file}.txt").write_text("".join(lines))
        return {"type": "unusual_text", "folder": str(folder)}


# -- tokens, fields, sizes --------------------------------------------------------------------------------------------------


class NumbersConfig(SourceConfig):
    type: Literal["unusual"] = "unusual"
    size: Count = 30
    shuffle: Shuffling = False


class Numbers(DataSourceModule):
    config_class = NumbersConfig

    def __len__(self) -> int:
        return self.config.size

    def element_spec(self) -> Any:
        return {"id": ID}

    def get_records(self, indices: Any) -> Any:
        return {"id": (record_numbers(indices, len(self), self.title) % 1_000_003).astype(np.int32)}


class TestTensOfTerarecords(Conformance):
    source_class = Numbers
    config = {"type": "unusual", "size": 2**40, "shuffle": True}


class TestOneRecord(Conformance):
    source_class = Numbers
    config = {"type": "unusual", "size": 1, "shuffle": True}


class TestMoreThanAreCompared(Conformance):
    source_class = Numbers
    config = {"type": "unusual", "size": 1797}


class Tokens(Numbers):
    """Tokens of any length, none among them."""

    def element_spec(self) -> Any:
        return {"tokens": jax.ShapeDtypeStruct((None,), np.dtype(np.int32))}

    def get_records(self, indices: Any) -> Any:
        numbers = record_numbers(indices, len(self), self.title).tolist()
        rows = [np.arange(number * 7 % 41, dtype=np.int32) + number for number in numbers]
        return {"tokens": Ragged.from_list(rows, np.int32, (None,))}


class TestTokens(Conformance):
    source_class = Tokens
    config = {"type": "unusual", "shuffle": True}
    expected_records = {0: {"tokens": []}, 1: {"tokens": list(range(1, 8))}}


class OddFields(Numbers):
    """Fields of no size, of narrow and wide dtypes, and objects that are dicts."""

    def element_spec(self) -> Any:
        dtypes = {"i64": np.int64, "b16": jnp.bfloat16, "flag": bool, "thing": object}
        fields = {name: jax.ShapeDtypeStruct((), np.dtype(dtype)) for name, dtype in dtypes.items()}
        return {**fields, "none": jax.ShapeDtypeStruct((0, 3), np.dtype(np.float32))}

    def get_records(self, indices: Any) -> Any:
        numbers = record_numbers(indices, len(self), self.title)
        things = np.empty(len(numbers), object)
        for row, number in enumerate(numbers.tolist()):
            things[row] = {"number": number, "parts": [number] * (number % 3)}
        return {
            "i64": numbers.astype(np.int64),
            "b16": numbers.astype(jnp.bfloat16),
            "flag": numbers % 2 == 0,
            "thing": things,
            "none": np.zeros((len(numbers), 0, 3), np.float32),
        }


class TestOddFields(Conformance):
    source_class = OddFields
    config = {"type": "unusual", "shuffle": True}


class NoSize(Numbers):
    def element_spec(self) -> Any:
        return {"none": jax.ShapeDtypeStruct((0,), np.dtype(np.float32))}

    def get_records(self, indices: Any) -> Any:
        return {"none": np.zeros((len(record_numbers(indices, len(self), self.title)), 0), np.float32)}


class TestNoSize(Conformance):
    source_class = NoSize
    config = {"type": "unusual"}


class Varying(Numbers):
    """Records that are read otherwise in each epoch."""

    varies_by_epoch = True

    def get_records(self, indices: Any) -> Any:
        epochs, numbers = np.divmod(np.asarray(indices).astype(np.int64), len(self))
        return {"id": (numbers * 7 + epochs * 3).astype(np.int32)}


class TestVarying(Conformance):
    source_class = Varying
    config = {"type": "unusual", "shuffle": True}


# -- streams ----------------------------------------------------------------------------------------------------------------


class Unsized(StreamingSourceBase):
    config_class = NumbersConfig

    def element_spec(self) -> Any:
        return {"id": ID}

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:
        for number in range(start, self.config.size):
            yield {"id": np.int32(number + epoch * self.config.shuffle)}


class TestUnsizedOfOne(Conformance):
    source_class = Unsized
    config = {"type": "unusual", "size": 1}


class LiveConfig(SourceConfig):
    type: Literal["unusual_live"] = "unusual_live"
    ticks: NonNegative = 0


class Live(StreamingSourceBase):
    """What it gave is gone; it ends after some ticks, or never."""

    config_class = LiveConfig
    is_live = True

    def element_spec(self) -> Any:
        return {"price": jax.ShapeDtypeStruct((), np.dtype(np.float32))}

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:  # noqa: ARG002 - it is read once
        tick = 0
        while not self.config.ticks or tick < self.config.ticks:
            yield {"price": np.float32(tick / 2)}
            tick += 1


class TestLive(Conformance):
    source_class = Live
    config = {"type": "unusual_live"}
    expected_records = {9: {"price": 4.5}}


class TestLiveThatEnds(Conformance):
    source_class = Live
    config = {"type": "unusual_live", "ticks": 5}


class WrapperConfig(SourceConfig):
    type: Literal["unusual_wrapper"] = "unusual_wrapper"
    source: AnySource | None = None


class Wrapper(SourceView):
    config_class = WrapperConfig

    @classmethod
    def from_config(cls, config: Any, build: Any) -> Self:
        return cls(config, build(config.source), rngs=build.rngs)


class TestWrapperOfLive(Conformance):
    source_class, parents = Wrapper, (Live,)
    config = {"type": "unusual_wrapper", "source": {"type": "unusual_live"}}
    effective = {"source": {"type": "unusual_live", "ticks": 9}}


class TestWrapperOfShuffled(Conformance):
    source_class, parents = Wrapper, (Numbers,)
    config = {"type": "unusual_wrapper", "source": {"type": "unusual", "shuffle": True}}
    effective = {"source": {"type": "unusual", "size": 40, "shuffle": True}}


class Counter(HostState):
    def __init__(self, served: int = 0) -> None:
        self.served = served

    def constructor_data(self) -> tuple[int]:
        return (self.served,)


class OwnBatchesConfig(SourceConfig):
    type: Literal["unusual_own"] = "unusual_own"
    factor: Count = 2


class OwnBatches(DataSourceModule):
    """A stream of an author's own ``get_batch``, without loops."""

    config_class = OwnBatchesConfig

    def __init__(self, config: Any, *, rngs: Any = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.at = Counter()

    def element_spec(self) -> Any:
        return {"id": ID}

    def get_batch(self, batch_size: int) -> Any:
        first, self.at.served = self.at.served, self.at.served + batch_size
        return {"id": np.arange(first, self.at.served, dtype=np.int32) * self.config.factor}

    def reset(self, seed: int | None = None) -> None:  # noqa: ARG002 - it is not shuffled
        self.at.served = 0

    def get_state(self) -> dict[str, Any]:
        return {"served": self.at.served, "factor": self.config.factor}

    def set_state(self, state: Any) -> None:
        if not isinstance(state, dict) or state.keys() != {"served", "factor"} or state["factor"] != self.config.factor:
            raise ValueError(f"{state!r} is no state of it")
        if type(state["served"]) is not int or state["served"] < 0:
            raise ValueError(f"{state['served']!r} is no number of records")
        self.at.served = state["served"]


class TestOwnBatches(Conformance):
    source_class = OwnBatches
    config = {"type": "unusual_own"}
