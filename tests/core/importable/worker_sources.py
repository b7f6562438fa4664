"""Sources for the tests of worker processes, which import this module; a record's index decides how its read behaves."""

import os
import signal
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core import DataSourceModule, SourceConfig

FAILS, FAILS_UNPICKLABLY, EXITS, IS_KILLED, SUBSTITUTED, HANGS, INCOMPLETE = range(900, 907)


class StubbornError(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("never")


class Records(DataSourceModule):
    """1,000 records with a field of every kind; reads of records 900 to 906 fail, hang or end the process."""

    def __init__(self, *, cacheable: bool = False, name: str | None = "bound") -> None:
        super().__init__(SourceConfig(type="records", cacheable=cacheable), name=name)

    def __len__(self) -> int:
        return 1000

    def element_spec(self) -> dict[str, Any]:
        def leaf(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(shape, np.dtype(dtype))

        return {
            "image": leaf(np.uint8, 3, 5),
            "id": leaf(np.int64),
            "pair": (leaf(np.float32, 2), leaf(np.bool_)),
            "half": leaf(jnp.bfloat16),
            "text": leaf("U6"),
            "word": leaf(object),
            "day": leaf("M8[D]"),
            "nothing": leaf(np.float32, 0),
            "pid": leaf(np.int64),
            "platforms": leaf("U8"),
        }

    def get_records(self, indices: np.ndarray) -> dict[str, Any]:
        for index in indices.tolist():
            self.misbehave(index)
        size = len(indices)
        if INCOMPLETE in indices:
            return {"id": indices}
        return {
            "image": (indices[:, None, None] + np.arange(15).reshape(3, 5)).astype(np.uint8),
            "id": indices + (1 << 40),
            "pair": (np.stack([indices * 0.5, -indices], 1).astype(np.float32), indices % 2 == 0),
            "half": indices.astype(jnp.bfloat16),
            "text": np.asarray([f"r{index}" for index in indices], "U6"),
            "word": np.asarray([{"n": index} for index in indices.tolist()], object),
            "day": np.datetime64("2020-01-01", "D") + indices,
            "nothing": np.zeros((size, 0), np.float32),
            "pid": np.full(size, os.getpid()),
            "platforms": np.full(size, os.environ.get("JAX_PLATFORMS", "none"), "U8"),
        }

    def misbehave(self, index: int) -> None:
        if index == FAILS:
            error = ValueError(f"record {index} is torn")
            error.add_note("shard 3")
            raise error from OSError("short read")
        if index == FAILS_UNPICKLABLY:
            raise StubbornError("no way")
        if index == EXITS:
            os._exit(3)
        if index == IS_KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if index == SUBSTITUTED:
            self.note_substituted(1)
        if index == HANGS:
            time.sleep(600)


class Unsendable(Records):
    """Holds a generator, which cannot be pickled, two levels deep."""

    def __init__(self) -> None:
        super().__init__()
        self.files = Files()


class Files:
    def __init__(self) -> None:
        self.reader = (byte for byte in b"")


class Refusing(Records):
    """Cannot be unpickled."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise FileNotFoundError("no /data/train-0001 on this machine")


class Shuffled(DataSourceModule):
    """Record i is i, shuffled, with the id of the process that read it; record 13 fails if ``fails`` is set."""

    def __init__(self, length: int = 100, *, fails: bool = False) -> None:
        config = SourceConfig(type="shuffled", stochastic=True, stream_name="shuffle")
        super().__init__(config, rngs=nnx.Rngs(0), name="shuffled")
        self.length, self.fails = length, fails

    def __len__(self) -> int:
        return self.length

    def element_spec(self) -> dict[str, Any]:
        return {"id": jax.ShapeDtypeStruct((), np.dtype(np.int32)), "pid": jax.ShapeDtypeStruct((), np.dtype(np.int32))}

    def get_records(self, indices: np.ndarray) -> dict[str, Any]:
        if self.fails and 13 in indices:
            raise OSError("record 13 is unreadable")
        return {"id": indices.astype(np.int32), "pid": np.full(len(indices), os.getpid(), np.int32)}
