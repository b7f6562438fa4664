"""Stages on the host that each break one promise."""

# ruff: noqa: ARG002 - their methods take what the protocol says

import itertools
import time
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core import Stage
from datarax_core.config import Count, Name
from datarax_core.errors import StageError
from datarax_core.records import Ragged
from datarax_core.stages import struct_of

ROWS = 11
RECORDS = {
    "text": [f"some text {row}" * (row % 3) for row in range(ROWS)],
    "tokens": [np.arange(row % 4, dtype=np.int32) for row in range(ROWS)],
    "label": np.arange(ROWS) * 3,
}
DAMAGED = {"text": "\ufffd", "tokens": np.arange(2, dtype=np.int32), "label": 1}
EXPECTED = {"size": np.array([len(text) * 2 for text in RECORDS["text"]])}


class Sized(Stage):
    """A right stage, from which the others derive: the length of each text, a number of times."""

    on_host: ClassVar[Any] = True

    type: Literal["kit_sized"] = "kit_sized"
    field: Name = "text"
    times: Count = 2

    def build(self, spec: Any, rngs: nnx.Rngs) -> Callable[..., Any]:
        struct = struct_of(spec, self.field)
        if struct.dtype.kind not in "OSU" or struct.shape:
            raise StageError(f"field {self.field!r} is {struct.dtype}{list(struct.shape)}, not text", ("field",))
        return self

    def element_spec(self, spec: Any) -> Any:
        return {**spec, "size": jax.ShapeDtypeStruct((), np.dtype(np.int64))}

    def __call__(self, batch: Any, *rngs: Any) -> Any:
        return {**batch, "size": self.sizes(batch[self.field], *rngs)}

    def sizes(self, texts: Any, *rngs: Any) -> Any:
        if any("\ufffd" in text for text in texts):
            raise StageError("a text has a character that was not decoded", ("field",))
        return np.array([len(text) * self.times for text in texts], np.int64)


class OnDevice(Sized):
    """Does not say that it runs on the host."""

    on_host: ClassVar[Any] = False


class BuildsADeviceStage(Sized):
    """Builds a function that does not say that it runs on the host."""

    def build(self, spec: Any, rngs: nnx.Rngs) -> Any:
        super().build(spec, rngs)
        return functools_partial(self)


def functools_partial(stage: Any) -> Any:
    def call(batch: Any) -> Any:
        return stage(batch)

    call.element_spec = stage.element_spec  # type: ignore[attr-defined]
    return call


class Late(Sized):
    """Looks for its field at the first batch."""

    def build(self, spec: Any, rngs: nnx.Rngs) -> Any:
        return self


class Halving(Sized):
    """Makes a row for every second record."""

    def sizes(self, texts: Any, *rngs: Any) -> Any:
        return super().sizes(texts)[::2]


class OnJax(Sized):
    """Computes on the device."""

    def sizes(self, texts: Any, *rngs: Any) -> Any:
        return jnp.asarray(super().sizes(texts))


ROOM = np.zeros(100, np.int64)


class Reusing(Sized):
    """Makes all batches in one memory."""

    thread_safe: ClassVar[bool] = False

    def sizes(self, texts: Any, *rngs: Any) -> Any:
        ROOM[: len(texts)] = super().sizes(texts)
        return ROOM[: len(texts)]


class TakesAway(Sized):
    """Removes a field of the dict that it is called with."""

    def __call__(self, batch: Any, *rngs: Any) -> Any:
        made = super().__call__(batch)
        del batch["label"]
        return made


class LyingSpec(Sized):
    """Says that it makes 32 bits."""

    def element_spec(self, spec: Any) -> Any:
        return {**spec, "size": jax.ShapeDtypeStruct((), np.dtype(np.int32))}


class Random(Sized):
    """Draws from generators of its own."""

    def sizes(self, texts: Any, *rngs: Any) -> Any:
        return super().sizes(texts) + np.random.default_rng().integers(1000)


class Centered(Sized):
    """Subtracts the least of the batch."""

    def sizes(self, texts: Any, *rngs: Any) -> Any:
        made = super().sizes(texts)
        return made - made.min() * (len(made) < ROWS) - made.max() * (len(made) == ROWS)


SCRATCH: dict[str, Any] = {}


class Scratch(Sized):
    """Keeps what it works on where all threads do."""

    def sizes(self, texts: Any, *rngs: Any) -> Any:
        SCRATCH["texts"] = texts
        time.sleep(0.002)
        return super().sizes(SCRATCH["texts"])[: len(texts)]


class NoCopy(Sized):
    """Builds an object that does not pickle."""

    def build(self, spec: Any, rngs: nnx.Rngs) -> Any:
        super().build(spec, rngs)
        return Unpicklable(self)


class Unpicklable:
    on_host = True

    def __init__(self, stage: Any) -> None:
        self.call, self.element_spec = (lambda batch: stage(batch)), stage.element_spec  # noqa: PLW0108

    def __call__(self, batch: Any) -> Any:
        return self.call(batch)


COUNT = itertools.count()


class Stamped(Sized):
    """Has another fingerprint at each look."""

    def fingerprint(self) -> Any:
        return {"look": next(COUNT)}


class InBytes(Sized):
    """Has a fingerprint that is no JSON."""

    def fingerprint(self) -> Any:
        return {"checksum": b"\x00"}


class Undrawn(Sized):
    """Draws nothing."""

    stochastic: ClassVar[bool] = True


class JoinsBadly(Sized):
    """Forgets the following stage when it is joined."""

    def join(self, following: Any) -> Any:
        return self


class Wrong(Sized):
    """Counts one too many."""

    def sizes(self, texts: Any, *rngs: Any) -> Any:
        return super().sizes(texts) + 1


class OverAllColumns(Sized):
    """Takes every column for an array of numbers or for text of its own."""

    def __call__(self, batch: Any, *rngs: Any) -> Any:
        made = super().__call__(batch)
        total = sum(len(column.values) for column in batch.values() if isinstance(column, Ragged))
        return {**made, "size": made["size"] + (total > 16) * len(batch)}


class Crashing(Sized):
    """Raises what its library raises."""

    def sizes(self, texts: Any, *rngs: Any) -> Any:
        if any("\ufffd" in text for text in texts):
            raise KeyError("\ufffd")
        return super().sizes(texts)


class Trusting(Sized):
    """Takes what it promises to refuse."""

    def sizes(self, texts: Any, *rngs: Any) -> Any:
        return np.array([len(text) * self.times for text in texts], np.int64)


class FailsOnce(Sized):
    """Refuses a damaged record in a batch, and takes it by itself."""

    def sizes(self, texts: Any, *rngs: Any) -> Any:
        return Trusting.sizes(self, texts) if len(texts) == 1 else super().sizes(texts)  # type: ignore[arg-type]


class Ignoring(Sized):
    """Ignores an option."""

    is_careful: bool = False


class DifferentByEpoch(Sized):
    """Draws by the epoch and not by the record: one more record than asked for is drawn from."""

    stochastic: ClassVar[bool] = True

    def sizes(self, texts: Any, *rngs: Any) -> Any:
        return super().sizes(texts) + int(rngs[0][0].integers(1000))
