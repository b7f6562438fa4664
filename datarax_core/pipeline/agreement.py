"""Agreement between the processes that share a batch, all or some of ``jax.distributed``: one verdict for all of them."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import jax
import numpy as np
from jax.experimental import multihost_utils

_PATIENCE: Final = 600.0
"""Seconds that a process waits for another one, which may be loading data."""

_SLICE: Final = 1.0
"""Seconds after which a process that waits looks whether the other one waits for it elsewhere."""

_rounds: Counter[str] = Counter()
"""The number of verdicts of this process so far, by the processes that they were for."""

Judge = Callable[[Mapping[int, str]], str]


def verdict(text: str, processes: Sequence[int], judge: Judge) -> str:
    """Return ``judge({process: text})``, computed on the first of the processes for all of them. A collective operation.

    Nothing is computed on devices: texts travel by the key-value store of ``jax.distributed``, so that any set of processes can
    agree without the others.

    Args:
        text: The text of this process.
        processes: The processes that take part, in ascending order; this one is one of them.
        judge: Function of the texts; the same on all processes.

    Raises:
        ValueError: A process waits for another set of processes.
        TimeoutError: A process did not come.
    """
    client = _client()
    if client is None:
        return judge(dict(enumerate(_gathered(text, processes))))
    return _Round(client, processes).verdict(text, judge)


class _Round:
    """One agreement of some processes: each puts down its text, the first reads all texts and puts down the verdict."""

    def __init__(self, client: Any, processes: Sequence[int]) -> None:
        self._client, self._processes, self._own = client, processes, jax.process_index()
        self._name = _name(processes)
        self._is_first = self._own == processes[0]
        while self._is_first and self._put_down("verdict", 0.01) is not None:
            _rounds[self._name] += 1  # the others gave this round up, because this process was elsewhere

    def verdict(self, text: str, judge: Judge) -> str:
        """Return the verdict, on every process."""
        _announce(self._client, self._own, self._processes, _rounds[self._name])
        if self._is_first:
            kind, said = self._judged(text, judge)
            self._put("verdict", json.dumps([kind, said]))
        else:
            self._put(str(self._own), text)
            try:
                kind, said = json.loads(self._awaited("verdict", self._processes[0]))
            except (ValueError, TimeoutError) as error:  # the others learn of it
                kind, said = _kind_of(error), str(error)
                self._put("verdict", json.dumps([kind, said]))
        self._forget_last_round()
        _rounds[self._name] += 1
        if kind != "said":
            raise {"elsewhere": ValueError, "missing": TimeoutError}[kind](said)
        return str(said)

    def _put(self, name: str, value: str) -> None:
        self._client.key_value_set(self._place(name), value, allow_overwrite=True)

    def _put_down(self, name: str, seconds: float) -> str | None:
        return _value(self._client, self._place(name), seconds)

    def _place(self, name: str, before: int = 0) -> str:
        return f"datarax/agreement/{self._name}/{_rounds[self._name] - before}/{name}"

    def _judged(self, text: str, judge: Judge) -> tuple[str, str]:
        texts = {self._own: text}
        try:
            for process in self._processes[1:]:
                texts[process] = self._awaited(str(process), process)
        except (ValueError, TimeoutError) as error:
            return _kind_of(error), str(error)
        return "said", judge(texts)

    def _awaited(self, name: str, process: int) -> str:
        """Return the value that a process puts down; raise if it waits for this process elsewhere, or does not come."""
        end = time.monotonic() + _PATIENCE * (1.0 if self._is_first else 1.1)
        while (value := self._put_down(name, _SLICE)) is None:
            others = _announced(self._client, process)
            if others is not None and others != list(self._processes) and self._own in others:
                if (value := self._put_down(name, 0.01)) is not None:  # it went there after it was here
                    return value
                raise ValueError(
                    f"the processes of this pipeline do not agree: its sharding is over the processes {list(self._processes)} "
                    f"on process {self._own}, and over {others} on process {process}. Build it with one mesh on all of them"
                )
            if time.monotonic() > end:
                raise TimeoutError(
                    f"process {process} did not build the pipeline, or restore its state, within {_PATIENCE:.0f} s of process "
                    f"{self._own}; all processes of its sharding, {list(self._processes)}, do so together"
                )
        return value

    def _forget_last_round(self) -> None:
        """Delete what this process put down in the round before: all processes came to this round, so they have read it."""
        if _rounds[self._name]:
            self._client.key_value_delete(self._place("verdict" if self._is_first else str(self._own), before=1))


def _kind_of(error: Exception) -> str:
    return "missing" if isinstance(error, TimeoutError) else "elsewhere"


def _announce(client: Any, process: int, processes: Sequence[int], number: int) -> None:
    client.key_value_set(f"datarax/agreement/at/{process}", json.dumps([list(processes), number]), allow_overwrite=True)


def _announced(client: Any, process: int) -> list[int] | None:
    """Return the processes with which a process waits for an agreement; None if it does not."""
    value = _value(client, f"datarax/agreement/at/{process}", 0.01)
    if value is None:
        return None
    processes, number = json.loads(value)
    is_over = jax.process_index() in processes and number < _rounds[_name(processes)]
    return None if is_over else processes


def _value(client: Any, key: str, seconds: float) -> str | None:
    try:
        return str(client.blocking_key_value_get(key, max(1, int(seconds * 1000))))
    except jax.errors.JaxRuntimeError as error:
        if not any(status in str(error) for status in ("DEADLINE_EXCEEDED", "NOT_FOUND")):
            raise
        return None


def _name(processes: Sequence[int]) -> str:
    return hashlib.sha256(json.dumps(list(processes)).encode()).hexdigest()[:16]


def _client() -> Any:
    """Return the client of the key-value store; None if the processes were not connected by ``jax.distributed``."""
    from jax._src import distributed  # noqa: PLC0415 - jax has no public name for it

    return getattr(distributed.global_state, "client", None)


def _gathered(text: str, processes: Sequence[int]) -> list[str]:
    """Return the texts of all processes by a computation on their devices."""
    if len(processes) != jax.process_count():
        raise ValueError(
            f"the processes {list(processes)} cannot agree without the others; connect all by jax.distributed.initialize()"
        )
    content = np.frombuffer(text.encode(), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.array([content.size], np.int32))).ravel()
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: content.size] = content
    rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(lengths), -1)
    return [row[:length].tobytes().decode() for row, length in zip(rows, lengths, strict=True)]
