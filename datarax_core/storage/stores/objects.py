"""Objects at addresses: what their stores say of them, ranges of their bytes, and whole objects on a disk of this machine.

Several objects, and many ranges of each, are under way at once. What fails by trouble that may pass is tried again.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from .failures import FailedError, Failure, persistently
from .joins import joined, pieces, placed
from .stores import ObjectFacts, Store, are_same, change_of
from .systems import AT_ONCE, store_of, wait_for

ResultT = TypeVar("ResultT")

GAP: Final = 1 << 16
"""Bytes between two ranges up to which one request reads them: what a connection brings while a request is answered."""

PIECE: Final = 1 << 23
"""Bytes of a request at most: a longer range is read by several at once."""

_PIECES_AT_ONCE: Final = 8
"""Pieces of a whole object under way at once, which all are in memory."""


class ObjectRanges(NamedTuple):
    """Ranges of one object."""

    address: str
    starts: Sequence[int]
    ends: Sequence[int]
    facts: ObjectFacts | None
    """What the store said of it before; None if it is not checked for changes."""


def facts_of(address: str, options: Mapping[str, Any] | None = None) -> ObjectFacts:
    """Return what the store says of an object now. Costs a request; listings that fsspec keeps are not asked.

    Raises:
        FileNotFoundError, PermissionError, ConnectionError, TimeoutError, ConfigError: As `ranges`.
    """
    return facts_of_all([address], options)[0]


def facts_of_all(addresses: Sequence[str], options: Mapping[str, Any] | None = None) -> list[ObjectFacts]:
    """Return what stores say of many objects, asked at once; raise for the first that fails.

    Raises:
        FileNotFoundError, PermissionError, ConnectionError, TimeoutError, ConfigError: As `ranges`.
    """
    stores = [store_of(address, options) for address in addresses]

    def asking(number: int) -> Callable[[], Awaitable[ObjectFacts]]:
        return lambda: stores[number].facts(addresses[number])

    outcome = wait_for(at_once([asking(number) for number in range(len(addresses))], stores))
    if isinstance(outcome, Failed):
        raise outcome.failure.error(addresses[outcome.number])
    return outcome


def object_ranges(
    objects: Sequence[ObjectRanges], options: Mapping[str, Any] | None = None, threads: int | None = None
) -> list[list[bytes]]:
    """Return the bytes of ranges of several objects: those of each, in the order given.

    Args:
        objects: The objects, each once.
        options: Options of fsspec's file systems.
        threads: Requests under way at once, at most; None for `AT_ONCE`.

    Raises:
        DataFileError, FileNotFoundError, PermissionError, ConnectionError, TimeoutError, ConfigError: As `ranges`.
    """
    stores = [store_of(each.address, options) for each in objects]
    joins = [joined(each.starts, each.ends, gap=GAP, most=PIECE) for each in objects]
    places: list[tuple[int, int, int]] = []  # number of the object, start, end
    counts: list[list[int]] = []  # pieces of each request of each object
    for number, requests in enumerate(joins):
        split = [pieces(request.start, request.end, PIECE) for request in requests]
        counts.append([len(found) for found in split])
        places += [(number, start, end) for found in split for start, end in found]

    def reading(number: int, start: int, end: int) -> Callable[[], Awaitable[bytes]]:
        return lambda: stores[number].read(objects[number].address, start, end, objects[number].facts)

    outcome = wait_for(at_once([reading(*place) for place in places], stores, threads or AT_ONCE))
    if isinstance(outcome, Failed):
        number, start, end = places[outcome.number]
        raise _error(outcome.failure, objects[number], f"bytes {start} to {end}")
    _require_same([each for each, store in zip(objects, stores, strict=True) if not store.is_conditional], options)
    bodies = iter(outcome)
    return [
        placed(
            requests,
            [next(bodies) if count == 1 else b"".join(next(bodies) for _ in range(count)) for count in of_object],
            each.starts,
            each.ends,
        )
        for each, requests, of_object in zip(objects, joins, counts, strict=True)
    ]


def download(
    address: str,
    to: str,
    *,
    stamp: tuple[int, int, int, str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write a whole object to a file of this machine, by several requests at once; memory for 64 MiB at most.

    Args:
        address: The object.
        to: Path of the file, which is made or written over.
        stamp: Its stamp, which is checked; None asks.
        options: Options of fsspec's file system.

    Raises:
        DataFileError: The object changed, or is shorter than its store said.
        FileNotFoundError, PermissionError, ConnectionError, TimeoutError, ConfigError: As `ranges`.
        OSError: The file cannot be written.
    """
    facts = facts_of(address, options) if stamp is None else ObjectFacts(*stamp)
    each = ObjectRanges(address, [0], [facts.size], facts)
    store = store_of(address, options)
    file = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
    try:
        outcome = wait_for(_copied(store, address, facts, file))
    finally:
        os.close(file)
    if isinstance(outcome, OSError):
        raise outcome
    if outcome is not None:
        raise _error(outcome, each, "all bytes")
    if not store.is_conditional:
        _require_same([each], options)


async def _copied(store: Store, address: str, facts: ObjectFacts, file: int) -> Failure | OSError | None:
    """Write an object to an open file; return why that failed."""

    def copying(start: int, end: int) -> Callable[[], Awaitable[None]]:
        async def copy() -> None:
            body = await store.read(address, start, end, facts)
            await asyncio.to_thread(_write, file, body, start)

        return copy

    try:
        outcome = await at_once([copying(*piece) for piece in pieces(0, facts.size, PIECE)], [store], _PIECES_AT_ONCE)
        if not isinstance(outcome, Failed):
            return None
        if outcome.failure.kind != "whole":
            return outcome.failure
        outcome = await at_once([lambda: _streamed(store, address, facts, file)], [store])
    except _WriteError as failed:
        return failed.error
    return outcome.failure if isinstance(outcome, Failed) else None


async def _streamed(store: Store, address: str, facts: ObjectFacts, file: int) -> None:
    """Write an object to an open file, of a server that sends whole objects only."""
    at = 0
    async for part in store.stream(address):
        await asyncio.to_thread(_write, file, part, at)
        at += len(part)
    if at != facts.size:
        raise FailedError(Failure("passing", f"an answer had {at} bytes instead of {facts.size}"))


class _WriteError(BaseException):
    """A file of this machine cannot be written: no failure of a store, and not to be tried again."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def _write(file: int, body: bytes, at: int) -> None:
    try:
        view = memoryview(body)
        while view:
            written = os.pwrite(file, view, at)
            view, at = view[written:], at + written
    except OSError as error:
        raise _WriteError(error) from error


class Failed(NamedTuple):
    """The first request that failed."""

    number: int
    failure: Failure


async def at_once(
    requests: Sequence[Callable[[], Awaitable[ResultT]]], stores: Sequence[Store], limit: int = AT_ONCE
) -> list[ResultT] | Failed:
    """Return the results of all requests, ``limit`` of them under way at once; or the first failure, and cancel the others.

    Args:
        requests: The requests.
        stores: Those that they are sent to, in any order.
        limit: How many are under way at once.
    """
    tries = min((store.tries for store in stores), default=1)
    results: list[Any] = [None] * len(requests)
    waiting = iter(enumerate(requests))
    failed: list[Failed] = []

    async def work() -> None:
        for number, request in waiting:
            try:
                results[number] = await persistently(request, tries)
            except FailedError as error:
                failed.append(Failed(number, error.failure))
                raise

    tasks = [asyncio.ensure_future(work()) for _ in range(min(limit, len(requests)))]
    if not tasks:
        return results
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failed:
        return failed[0]
    for task in done:
        task.result()  # an error that is no failure of a store
    return results


def _error(failure: Failure, each: ObjectRanges, place: str) -> Exception:
    """Return the error of a request that failed: that of a changed object, if it is gone or was cut short since."""
    if each.facts is not None and failure.kind == "absent":
        failure = Failure("changed", "it is gone")
    if each.facts is not None and failure.kind == "short" and max(each.ends, default=0) <= each.facts.size:
        failure = Failure("changed", f"{failure.cause} where it had {each.facts.size}")
    return failure.error(each.address, place)


def _require_same(objects: Sequence[ObjectRanges], options: Mapping[str, Any] | None) -> None:
    """Raise if a store says something else of an object than before; one request for each."""
    looked = [(each, each.facts) for each in objects if each.facts is not None]
    for (each, before), now in zip(looked, facts_of_all([each.address for each, _ in looked], options), strict=True):
        if not are_same(before, now):
            raise _error(Failure("changed", change_of(before, now)), each, "")
