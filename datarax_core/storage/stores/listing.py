"""Listings of stores: the objects of a folder, those that a pattern matches, and whether objects are there.

Folders are prefixes of names. Listings that fsspec keeps are dropped before each: a new object is to be seen.
"""

import asyncio
import fnmatch
import glob
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from datarax_core.config.addresses import scheme_of

from .failures import FailedError, Failure, persistently
from .objects import Failed, at_once
from .stores import Store
from .systems import store_of, wait_for

ResultT = TypeVar("ResultT")

_SHARDS: Final = re.compile(r"-\?{5,}-of-\?{5,}")
_WEB: Final = ("http", "https")


def has_pattern(address: str) -> bool:
    """Return whether an address is a pattern; a ``?`` of ``https://`` begins a query, but for that of numbers of shards."""
    if scheme_of(address) in _WEB:
        return bool(_SHARDS.search(address)) or any(sign in address.partition("?")[0] for sign in "*[")
    return glob.has_magic(address.partition("?versionId=")[0])


def fixed_part(pattern: str) -> str:
    """Return the folder below which all is that a pattern matches."""
    signs = [pattern.find(sign) for sign in "*[?" if sign in pattern]
    return pattern[: min(signs, default=len(pattern))].rpartition("/")[0]


def are_folders(addresses: Sequence[str], options: Mapping[str, Any] | None = None) -> list[bool]:
    """Return whether each address is a folder, not an object, asked at once; of ``https://``, whether it ends with a slash.

    Raises:
        FileNotFoundError: One is neither.
        PermissionError, ConnectionError, TimeoutError, ConfigError: As `ranges`.
    """

    def looking(address: str) -> Callable[[], Awaitable[bool]]:
        store = store_of(address, options)

        async def look() -> bool:
            if address.endswith("/"):
                return True
            if scheme_of(address) in _WEB:
                await store.facts(address)
                return False
            info = await store.call("info", store.name(address))
            return bool(info.get("type") == "directory")

        return look

    return _all_asked(addresses, [looking(address) for address in addresses], options)


def entries_of(folder: str, options: Mapping[str, Any] | None = None) -> list[str]:
    """Return the addresses of the objects of a folder, not of folders in it, sorted.

    Raises:
        FileNotFoundError, PermissionError, ConnectionError, TimeoutError, ConfigError: As `ranges`.
    """
    store = store_of(folder, options)
    entries = _asked(folder, store, lambda: _entries(store, folder))
    return sorted(entry.address for entry in entries if entry.is_object)


def matches_of(pattern: str, options: Mapping[str, Any] | None = None) -> list[str]:
    """Return the addresses of the objects that a pattern matches, sorted; hidden ones only if the pattern says so.

    Every folder on the way costs a listing. (fsspec's own ``glob`` leaves out folders whose listing fails.)

    Raises:
        PermissionError, ConnectionError, TimeoutError, ConfigError: As `ranges`.
    """
    store, root = store_of(pattern, options), fixed_part(pattern)
    parts = pattern[len(root) + 1 :].split("/")
    return sorted(set(_waited(pattern, lambda: _matching(store, root, parts))))


async def _matching(store: Store, folder: str, parts: Sequence[str]) -> list[str]:
    """Return the objects below a folder that the parts of a pattern match, one part for each folder."""
    first, *rest = parts
    if rest and not glob.has_magic(first):
        return await _matching(store, f"{folder}/{first}", rest)
    try:
        entries = await persistently(lambda: _entries(store, folder), store.tries)
    except FailedError as failed:
        if failed.failure.kind != "absent":
            raise
        return []
    folders = [entry.address for entry in entries if not entry.is_object]
    if first == "**":
        shown = [below for below in folders if not _name_in(below).startswith(".")]
        below = [_matching(store, each, parts) for each in shown]
        return _flat(await asyncio.gather(*below, _matching(store, folder, rest or ["*"])))
    if rest:
        return _flat(await asyncio.gather(*(_matching(store, each, rest) for each in folders if _fits(each, first))))
    return [entry.address for entry in entries if entry.is_object and _fits(entry.address, first)]


def _flat(lists: Iterable[list[str]]) -> list[str]:
    return [address for each in lists for address in each]


def _fits(address: str, part: str) -> bool:
    name = _name_in(address)
    return fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith("."))


def _name_in(address: str) -> str:
    return address.rpartition("/")[2]


class _Entry(NamedTuple):
    address: str
    is_object: bool


async def _entries(store: Store, folder: str) -> list[_Entry]:
    """Return what is in a folder, but for the folder itself, which some stores list."""
    is_web, folder = scheme_of(folder) in _WEB, folder.rstrip("/")
    entries = await store.call("ls", f"{folder}/" if is_web else store.name(folder), detail=True)
    addressing = _addressing(folder)
    found = [_Entry(addressing(entry["name"]).rstrip("/"), entry["type"] == "file") for entry in entries]
    return [entry for entry in found if entry.address.rpartition("/")[0] == folder and _name_in(entry.address)]


def present(addresses: Sequence[str], options: Mapping[str, Any] | None = None) -> list[bool]:
    """Return whether each object is there: by one listing of each folder; by a request for each of ``https://``.

    Raises:
        PermissionError, ConnectionError, TimeoutError, ConfigError: As `ranges`.
    """
    if scheme_of(addresses[0]) not in _WEB:
        there: set[str] = set()
        for folder in {address.rpartition("/")[0] for address in addresses}:
            try:
                there.update(entries_of(folder, options))
            except FileNotFoundError:
                continue
        return [address in there for address in addresses]

    def looking(address: str) -> Callable[[], Awaitable[bool]]:
        store = store_of(address, options)

        async def look() -> bool:
            try:
                await store.facts(address)
            except FailedError as failed:
                if failed.failure.kind != "absent":
                    raise
                return False
            return True

        return look

    return _all_asked(addresses, [looking(address) for address in addresses], options)


def _all_asked(
    addresses: Sequence[str], looks: Sequence[Callable[[], Awaitable[ResultT]]], options: Mapping[str, Any] | None
) -> list[ResultT]:
    """Return what a coroutine function for each address returns, many at once."""
    if not addresses:
        return []
    outcome = wait_for(at_once(looks, [store_of(addresses[0], options)]))
    if isinstance(outcome, Failed):
        raise outcome.failure.error(addresses[outcome.number])
    return outcome


def _asked(address: str, store: Store, look: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Return what a coroutine function returns, which is called again where it fails by trouble that may pass."""
    return _waited(address, lambda: persistently(look, store.tries))


def _waited(address: str, look: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Return what a coroutine function returns; its failure is raised outside of all handlers, since they chain causes."""

    async def outcome() -> ResultT | Failure:
        try:
            return await look()
        except FailedError as failed:
            return failed.failure

    found = wait_for(outcome())
    if isinstance(found, Failure):
        raise found.error(address)
    return found


def _addressing(address: str) -> Callable[[str], str]:
    """Return a function from names of a store, as fsspec lists them, to addresses of the form of ``address``."""
    scheme = scheme_of(address) or ""
    if scheme in _WEB:
        return lambda name: name
    _, at, host = address.partition("://")[2].partition("/")[0].partition("@")

    def full(name: str) -> str:
        first, slash, rest = name.lstrip("/").partition("/")
        return f"{scheme}://{first}{at}{host}{slash}{rest}"

    return full
