"""For each promise about states, processes, threads and what is left behind a source that breaks it."""

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import numpy as np
from flax import nnx

from .healthy import Healthy, HealthyStream, Of, OfStream, Table

# -- states -----------------------------------------------------------------------------------------------------------------


class HeavyState(Healthy):
    """Saves a permutation."""

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
    """Goes on at a multiple of 14."""

    def set_state(self, state: Any) -> None:
        super().set_state(state)
        if self.cursor.position > 12:
            self.cursor.move(self.cursor.position // 14 * 14)


class Consuming(Healthy):
    """Takes out of a state what it has used."""

    def set_state(self, state: Any) -> None:
        super().set_state(state)
        state.pop("run_start")


class CountsItsOwn(HealthyStream):
    """Notes what it served itself, and knows nothing of pipelines."""

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
    """Goes where any state says."""

    def set_state(self, state: Any) -> None:
        self.cursor.restore(state["position"], state["run_start"])


class ResetsNothing(Healthy):
    """Stays where it is at a reset."""

    def reset(self, seed: int | None = None) -> None:
        if seed is not None:
            super().reset(seed)


class ResetsToItsOwn(Healthy):
    """Keeps its order whatever seed a reset names."""

    def reset(self, seed: int | None = None) -> None:  # noqa: ARG002 - not looking at it is the point
        super().reset()


# -- processes and threads --------------------------------------------------------------------------------------------------


class PhonesHome(Healthy):
    """Tells somebody that it was built, and goes on if nobody is there."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", 9), timeout=1).close()


class Forgetful(Healthy):
    """Is a new one after a pickle."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return type(self), (self.config,)

    def __init__(self, config: Any, *, rngs: Any = None) -> None:
        super().__init__(config, rngs=rngs or nnx.Rngs(0))


_TABLES: Final[dict[int, np.ndarray]] = {}


class ByTable(Healthy):
    """Has its records in a table of this process."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.number = len(_TABLES)
        _TABLES[self.number] = np.arange(self.config.size)

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        return super().get_records(_TABLES[self.number][np.asarray(indices)])


_TWO_THREADS: Final = threading.Barrier(2)


class SharesScratch(Healthy):
    """Notes what it reads where every thread does, and has two of them meet there."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.scratch = Table(np.arange(0))

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        self.scratch.ids = np.asarray(indices)
        if threading.current_thread().name.startswith("ThreadPoolExecutor"):
            try:
                _TWO_THREADS.wait(0.2)
            except threading.BrokenBarrierError:  # there is but one
                _TWO_THREADS.reset()
        return super().get_records(self.scratch.ids)


class BoundToAThread(Healthy):
    """Can be read by the thread that built it, as connections to some data bases are."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.thread = threading.get_ident()

    def get_batch(self, batch_size: int) -> Any:
        if threading.get_ident() != self.thread:
            raise RuntimeError("objects created in a thread can only be used in that same thread")
        return super().get_batch(batch_size)


# -- what is left -----------------------------------------------------------------------------------------------------------


class Hoarding(Healthy):
    """Keeps all that it ever read."""

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
    """Opens a file that nobody closes."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        OPENED.append(os.open(os.devnull, os.O_RDONLY))


STOP: Final = threading.Event()


class LeavesAThread(Healthy):
    """Starts a thread that nobody ends."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        threading.Thread(target=STOP.wait, daemon=True, name="left").start()


OFS = {
    HeavyState: Of, Rounding: Of, Consuming: Of, CountsItsOwn: OfStream, Trusting: Of, ResetsNothing: Of,
    ResetsToItsOwn: Of,
    PhonesHome: Of, Forgetful: Of, ByTable: Of, SharesScratch: Of, BoundToAThread: Of,
    Hoarding: Of, LeavesOpen: Of, LeavesAThread: Of,
}  # fmt: skip
