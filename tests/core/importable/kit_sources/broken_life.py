"""For each promise about states, processes, threads and leaks, a source that breaks it and keeps the others."""

import multiprocessing
import os
import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self

import numpy as np
from flax import nnx

from .healthy import Conformance, FileConformance, Healthy, HealthyFile, HealthyStream, StreamConformance, Table

# -- states -----------------------------------------------------------------------------------------------------------------


class HeavyState(Healthy):
    """Saves a whole permutation in its state."""

    permutation = list(range(3000))

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "order": self.permutation}

    def set_state(self, state: Any) -> None:
        if isinstance(state, dict) and state.get("order") != self.permutation:
            raise ValueError(f"the order of the state is {state.get('order')!r:.80}")
        super().set_state(
            {name: value for name, value in state.items() if name != "order"} if isinstance(state, dict) else state
        )


class Rounding(Healthy):
    """Continues at a multiple of 14 after a restore."""

    def set_state(self, state: Any) -> None:
        super().set_state(state)
        if self.cursor.position > 12:
            self.cursor.move(self.cursor.position // 14 * 14)


class Consuming(Healthy):
    """Removes keys from the state that it restores."""

    def set_state(self, state: Any) -> None:
        super().set_state(state)
        state.pop("run_start")


class CountsItsOwn(HealthyStream):
    """Counts the records that it served by itself, and ignores pipelines' positions."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.served = Table(np.zeros(1, np.int64))

    def get_batch(self, batch_size: int) -> Any:
        self.served.ids[0] += batch_size
        return super().get_batch(batch_size)

    def get_state(self) -> dict[str, Any]:
        epoch, index = divmod(int(self.served.ids[0]), len(self))
        return {**super().get_state(), "epoch": epoch, "index": index}

    def set_state(self, state: Any) -> None:
        super().set_state(state)
        self.served.ids[0] = state["epoch"] * len(self) + state["index"]

    def reset(self, seed: int | None = None) -> None:
        super().reset(seed)
        self.served.ids[0] = 0


class Trusting(Healthy):
    """Restores any state without a check."""

    def set_state(self, state: Any) -> None:
        self.cursor.restore(state["position"], state["run_start"])


class ForgetsItsOptions(Healthy):
    """Leaves its config and its length out of its fingerprint."""

    def fingerprint(self) -> dict[str, Any]:
        whole = super().fingerprint()
        return {name: whole[name] for name in ("source", "order", "seed")}


class BoundToAPath(HealthyFile):
    """Has its path in its fingerprint."""

    def fingerprint(self) -> dict[str, Any]:
        return {**super().fingerprint(), "path": str(self.config.path)}


class ForgetsItsData(Healthy):
    """Takes data in its constructor, and does not say so to copy()."""

    def __init__(self, config: Any, table: list[int], *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.first = table[0]

    @classmethod
    def from_config(cls, config: Any, build: Any) -> Self:
        return cls(config, [0], rngs=build.rngs)


class ResetsNothing(Healthy):
    """Ignores reset()."""

    def reset(self, seed: int | None = None) -> None:
        if seed is not None:
            super().reset(seed)


class ResetsToItsOwn(Healthy):
    """Keeps its order, whatever the seed of reset()."""

    def reset(self, seed: int | None = None) -> None:  # noqa: ARG002 - ignoring the argument is the fault
        super().reset()


# -- processes and threads --------------------------------------------------------------------------------------------------


class PhonesHome(Healthy):
    """Connects to a network when it is built, and ignores the failure."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", 9), timeout=1).close()


class Forgetful(Healthy):
    """Pickles without its position."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return type(self), (self.config,)

    def __init__(self, config: Any, *, rngs: Any = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs or nnx.Rngs(0), name=name)


_TABLES: Final[dict[int, np.ndarray]] = {}


class ByTable(Healthy):
    """Has its records in a table that exists in this process only."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.number = len(_TABLES)
        _TABLES[self.number] = np.arange(self.config.size)

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        return super().get_records(_TABLES[self.number][np.asarray(indices)])


_TWO_THREADS: Final = threading.Barrier(2)


class SharesScratch(Healthy):
    """Shares the indices of a read between threads, and makes two threads meet there."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.scratch = Table(np.arange(0))

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        self.scratch.ids = np.asarray(indices)
        if threading.current_thread().name.startswith("ThreadPoolExecutor"):
            try:
                _TWO_THREADS.wait(0.2)
            except threading.BrokenBarrierError:  # only a single thread reads
                _TWO_THREADS.reset()
        return super().get_records(self.scratch.ids)


class BoundToAThread(Healthy):
    """Can be read only by the thread that built it, as with connections to some databases."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.thread = threading.get_ident()

    def get_batch(self, batch_size: int) -> Any:
        if threading.get_ident() != self.thread:
            raise RuntimeError("objects created in a thread can only be used in that same thread")
        return super().get_batch(batch_size)


class KeepsAConnection(Healthy):
    """Holds a connection that belongs to the thread that opened it, and does not pickle: the mistake of most authors."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.connection = sqlite3.connect(":memory:")

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        self.connection.execute("select 1")
        return super().get_records(indices)


# -- calls in any order -----------------------------------------------------------------------------------------------------


class RewoundByCopies(Healthy):
    """Starts over itself when it is copied."""

    def copy(self, **replaced: Any) -> Self:
        self.cursor.restore(0, 0)
        return super().copy(**replaced)


class StepsForward(Healthy):
    """Serves small batches from positions that never go back, as a file that is read on."""

    def order_reader(self, size: int, *, background: bool = False) -> Any:
        reader = super().order_reader(size, background=background)
        return Forward(reader) if size < self.elements_ahead else reader


class Forward:
    def __init__(self, reader: Any) -> None:
        self.reader, self.position = reader, 0

    def take(self, position: int, size: int) -> Any:
        at, self.position = max(position, self.position), max(position, self.position) + size
        return self.reader.take(at, size)


class LeavesTheTail(Healthy):
    """Gives another process the head of its records only."""

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        in_worker = multiprocessing.current_process().name != "MainProcess"
        return super().get_records(np.asarray(indices) % 20 if in_worker else indices)


# -- leaks ------------------------------------------------------------------------------------------------------------------


class Hoarding(Healthy):
    """Keeps every batch that it read."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.kept = Kept()

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        batch = super().get_records(indices)
        self.kept.batches.append(batch)
        return batch


class Kept:
    def __init__(self) -> None:
        self.batches: list[Any] = []


OPENED: Final[list[int]] = []


class LeavesOpen(Healthy):
    """Opens a file and never closes it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        OPENED.append(os.open(os.devnull, os.O_RDONLY))


STOP: Final = threading.Event()


class LeavesAThread(Healthy):
    """Starts a thread and never ends it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        threading.Thread(target=STOP.wait, daemon=True, name="left").start()


CONFORMANCES = {
    ForgetsItsData: Conformance,
    ForgetsItsOptions: Conformance,
    BoundToAPath: FileConformance,
    HeavyState: Conformance,
    Rounding: Conformance,
    Consuming: Conformance,
    CountsItsOwn: StreamConformance,
    Trusting: Conformance,
    ResetsNothing: Conformance,
    ResetsToItsOwn: Conformance,
    PhonesHome: Conformance,
    Forgetful: Conformance,
    ByTable: Conformance,
    SharesScratch: Conformance,
    BoundToAThread: Conformance,
    KeepsAConnection: Conformance,
    RewoundByCopies: Conformance,
    StepsForward: Conformance,
    LeavesTheTail: StreamConformance,
    Hoarding: Conformance,
    LeavesOpen: Conformance,
    LeavesAThread: Conformance,
}
