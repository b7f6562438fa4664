"""Stores of objects, each behind one fsspec file system: what is said of an object, and the bytes of one range of it.

HTTP servers and S3 take conditions with each request, so that a changed object is refused without another request. Other
stores are asked again what they say of the object, once for each object that was read.

All methods are coroutines of fsspec's loop.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final, NamedTuple

from .failures import TRIES, FailedError, Failure, kind_of_status
from .threads import pool

_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_STREAMED: Final = 1 << 20
_RAW: Final = {"Accept-Encoding": "identity"}


class ObjectFacts(NamedTuple):
    """What a store says of an object; the fields are those of `Stamp`."""

    size: int
    changed_ns: int = 0
    inode: int = 0
    etag: str = ""
    version: str = ""


def are_same(before: tuple[int, int, int, str, str], now: tuple[int, int, int, str, str]) -> bool:
    """Return whether facts, or stamps, of an object are of the same content.

    They are compared by what both have, since a listing says less than a look at one object: by versions or entity tags, else
    by the time in seconds.
    """
    (size, changed, _, etag, version), (size_now, changed_now, _, etag_now, version_now) = before, now
    if size != size_now:
        return False
    if version and version == version_now:
        return True
    if etag and etag_now:
        return etag == etag_now
    if version and version_now:
        return False
    return changed // 10**9 == changed_now // 10**9


def change_of(before: tuple[int, int, int, str, str], now: tuple[int, int, int, str, str]) -> str:
    """Return how an object changed, as a clause of a message."""
    return f"it has {now[0]} bytes where it had {before[0]}" if now[0] != before[0] else "it was written to or replaced"


class Store:
    """Any store: fsspec's file system of it is asked in its own words."""

    is_conditional: bool = False
    """Whether `read` checks that the object is still the one that was looked at; if not, it is to be looked at again."""

    def __init__(self, system: Any, tries: int = TRIES) -> None:
        self.system = system
        self.tries = tries
        """How many times a request is sent: fewer where the library of the store tries by itself."""

    async def facts(self, address: str) -> ObjectFacts:
        """Return what the store says of an object now."""
        info = await self.call("info", self.name(address))
        if info.get("type") == "directory":
            raise FailedError(Failure("absent", "it is a folder"))
        size = info.get("size")
        if size is None:
            raise FailedError(Failure("other", "the store does not say how large it is"))
        changed = next((info[name] for name in _TIMES if info.get(name) is not None), None)
        etag = next((info[name] for name in _TAGS if info.get(name)), "")
        version = next((info[name] for name in _VERSIONS if info.get(name)), "")
        return ObjectFacts(int(size), nanoseconds(changed), 0, tag_of(str(etag)), str(version))

    async def read(self, address: str, start: int, end: int, facts: ObjectFacts | None) -> bytes:
        """Return bytes of an object.

        Args:
            address: The object.
            start: The first byte.
            end: The byte after the last one.
            facts: What the store said of the object before; None if any object is taken.

        Raises:
            FailedError: There are fewer bytes, the object is another one than ``facts`` say, or the store says why.
            Exception: Any error of the library that reads the store.
        """
        del facts  # see `is_conditional`
        body: bytes = await self.call("cat_file", self.name(address), start=start, end=end)
        if len(body) < end - start:
            size = (await self.facts(address)).size
            raise FailedError(too_short(len(body), start, end, size))
        return bytes(body[: end - start])

    async def stream(self, address: str) -> AsyncIterator[bytes]:
        """Yield all bytes of an object, of a store that sends whole objects only."""
        yield await self.call("cat_file", self.name(address))

    def name(self, address: str) -> str:
        """Return the name of an object as fsspec's methods take it."""
        name: str = self.system._strip_protocol(address)  # noqa: SLF001 - how fsspec's own functions call it
        return name

    async def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Return what a method of fsspec's file system returns, in a thread if it is no coroutine."""
        self.system.invalidate_cache()  # of listings: an object that changed is to be seen
        if self.system.async_impl:
            return await getattr(self.system, f"_{method}")(*arguments, **options)
        call = getattr(self.system, method)
        return await asyncio.get_running_loop().run_in_executor(pool("requests"), lambda: call(*arguments, **options))


_TIMES: Final = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
_TAGS: Final = ("ETag", "etag", "md5Hash", "checksum", "blob_id")
_VERSIONS: Final = ("generation", "version_id", "VersionId")


class S3Store(Store):
    """S3, and what speaks its language: conditions by ``If-Match``."""

    is_conditional = True

    async def facts(self, address: str) -> ObjectFacts:
        """Return what the store says of an object now."""
        said = await self.system._call_s3("head_object", **self._place(address))  # noqa: SLF001 - as S3FileSystem.call_s3, on its loop
        version = said.get("VersionId") or ""
        return ObjectFacts(
            int(said["ContentLength"]),
            nanoseconds(said.get("LastModified")),
            0,
            tag_of(said.get("ETag", "")),
            "" if version == "null" else version,
        )

    async def read(self, address: str, start: int, end: int, facts: ObjectFacts | None) -> bytes:
        """Return bytes of an object."""
        condition = {"IfMatch": f'"{facts.etag}"'} if facts is not None and facts.etag else {}
        said = await self.system._call_s3(  # noqa: SLF001 - as above
            "get_object", Range=f"bytes={start}-{end - 1}", **self._place(address), **condition
        )
        try:
            body: bytes = await said["Body"].read()
        finally:
            said["Body"].close()
        checked(body, start, end, facts, content_range=said.get("ContentRange", ""), etag=tag_of(said.get("ETag", "")))
        return body

    def _place(self, address: str) -> dict[str, str]:
        path, _, version = address.partition("?versionId=")
        bucket, key, _ = self.system.split_path(path)
        place = {"Bucket": bucket, "Key": key}
        return {**place, "VersionId": version} if version else place


class HttpStore(Store):
    """Servers of HTTP: conditions by ``If-Match``, or by the time of the last modification where there are no tags."""

    is_conditional = True

    async def facts(self, address: str) -> ObjectFacts:
        """Return what the server says of a file now: by HEAD, or by a range of one byte where HEAD is refused."""
        session = await self.system.set_session()
        options = self._options({})
        async with session.head(self.system.encode_url(address), allow_redirects=True, **options) as answer:
            if answer.status < 400 and (facts := _facts_in(answer.headers, answer.headers.get("Content-Length"))):
                return facts
            if answer.status not in (400, 401, 403, 405, 501) and answer.status >= 400:
                raise FailedError(_refusal(answer))
        async with session.get(self.system.encode_url(address), **self._options({"Range": "bytes=0-0"})) as answer:
            if answer.status == 416:  # an empty file has no byte
                return _facts_in(answer.headers, "0") or ObjectFacts(0)
            if answer.status >= 400:
                raise FailedError(_refusal(answer))
            found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            size = found[3] if found else answer.headers.get("Content-Length") if answer.status == 200 else None
            if facts := _facts_in(answer.headers, size):
                return facts
        raise FailedError(Failure("other", "the server does not say how large it is"))

    async def read(self, address: str, start: int, end: int, facts: ObjectFacts | None) -> bytes:
        """Return bytes of a file."""
        session = await self.system.set_session()
        options = self._options({"Range": f"bytes={start}-{end - 1}", **_condition(facts)})
        async with session.get(self.system.encode_url(address), **options) as answer:
            if answer.status >= 400:
                raise FailedError(_refusal(answer))
            if answer.status != 206 and not (start == 0 and answer.headers.get("Content-Length") == str(end)):
                raise FailedError(Failure("whole", "its server takes no ranges, and sends the whole object each time"))
            body: bytes = await answer.read()
            headers = answer.headers
        checked(
            body,
            start,
            end,
            facts,
            content_range=headers.get("Content-Range", ""),
            etag=tag_of(headers.get("ETag", "")),
        )
        if facts is not None and not facts.etag and "Last-Modified" in headers:
            require_equal(nanoseconds(headers["Last-Modified"]), facts.changed_ns)
        return body

    async def stream(self, address: str) -> AsyncIterator[bytes]:
        """Yield all bytes of a file."""
        session = await self.system.set_session()
        async with session.get(self.system.encode_url(address), **self._options({})) as answer:
            if answer.status >= 400:
                raise FailedError(_refusal(answer))
            async for part in answer.content.iter_chunked(_STREAMED):
                yield part

    def _options(self, headers: Mapping[str, str]) -> dict[str, Any]:
        options = dict(self.system.kwargs)
        options["headers"] = {**_RAW, **options.get("headers", {}), **headers}
        return options


def _facts_in(headers: Mapping[str, str], size: str | None) -> ObjectFacts | None:
    if size is None or not size.isdigit() or headers.get("Content-Encoding", "identity") not in ("", "identity"):
        return None
    return ObjectFacts(int(size), nanoseconds(headers.get("Last-Modified")), 0, tag_of(headers.get("ETag", "")))


def _condition(facts: ObjectFacts | None) -> dict[str, str]:
    if facts is None:
        return {}
    if facts.etag:  # a weak tag never matches by the rules of HTTP: it is compared with that of the answer
        return {} if facts.etag.startswith("W/") else {"If-Match": f'"{facts.etag}"'}
    if facts.changed_ns:
        at = datetime.fromtimestamp(facts.changed_ns // 10**9, UTC)
        return {"If-Unmodified-Since": format_datetime(at, usegmt=True)}
    return {}


def _refusal(answer: Any) -> Failure:
    try:
        wait = float(answer.headers.get("Retry-After", 0))
    except ValueError:  # a date
        wait = 0.0
    cause = f"HTTP {answer.status} {answer.reason or ''}".strip()
    if answer.status == 412:
        cause = "it was written to or replaced"
    return Failure(kind_of_status(answer.status), cause, retry_after=wait)


def checked(body: bytes, start: int, end: int, facts: ObjectFacts | None, *, content_range: str, etag: str) -> None:
    """Raise if an answer is not of the range that was asked for, or of another object.

    Raises:
        FailedError: With the reason.
    """
    if facts is not None and facts.etag and etag and etag != facts.etag:
        require_equal(etag, facts.etag)
    found = _RANGE.fullmatch(content_range)
    if found and int(found[1]) != start:
        raise FailedError(Failure("other", f"the answer begins at byte {found[1]}, not {start}"))
    size = int(found[3]) if found and found[3] != "*" else None
    if facts is not None and size is not None:
        require_equal(size, facts.size, f"it has {size} bytes where it had {facts.size}")
    if len(body) != end - start:
        raise FailedError(too_short(len(body), start, end, size))


def require_equal(now: object, before: object, cause: str = "it was written to or replaced") -> None:
    """Raise the failure of a changed object if two values differ.

    Raises:
        FailedError: They do.
    """
    if now != before:
        raise FailedError(Failure("changed", cause))


def too_short(length: int, start: int, end: int, size: int | None) -> Failure:
    """Return the failure of a body of another length than was asked for: it is cut short, or the object ends there."""
    if size is not None and size < end:
        return Failure("short", f"it has {size} bytes")
    return Failure("passing", f"an answer had {length} bytes instead of {end - start}")


def tag_of(etag: str) -> str:
    """Return an entity tag without its quotes."""
    return f"W/{etag[2:].strip(chr(34))}" if etag.startswith("W/") else etag.strip('"')


def nanoseconds(changed: object) -> int:
    """Return a time in any form that stores use, in nanoseconds since 1970; 0 if there is none."""
    if isinstance(changed, str):
        changed = _parsed(changed)
    if isinstance(changed, datetime):
        return int(changed.timestamp() * 1e6) * 1000
    return int(changed * 1e9) if isinstance(changed, int | float) else 0


def _parsed(changed: str) -> datetime | None:
    """Return a time in the form of HTTP or of ISO 8601; None if it is neither."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return parse(changed)
        except ValueError:
            continue
    return None
