"""Blocks of a cache: read where they are there, fetched and stored where they are not."""

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from datarax_core.background import renew_in_forks

from .pieces import Pieces
from .segments import BLOCKS, HEADER_BYTES, Segment
from .space import Space

Fetch: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], list[bytes]]
"""Returns the bytes of ranges: for the object, the first byte and the end of each, int64 (k,)."""

_Piece: TypeAlias = tuple[int, int, int, int]
_Place: TypeAlias = tuple[int, int, int]
"""Object, number of the segment, and block in it."""

_MOST_FETCHED: Final = 1 << 26
"""Bytes of blocks that are fetched at once, and held in memory until they are stored."""

_SEGMENTS_OF_LIMIT: Final = 16
_FETCHED_OF_LIMIT: Final = 4
"""A segment, and what is fetched at once, take such a part of the limit at most."""

_SPARSE: Final = 4
"""A block of which less than this part is asked for is not fetched whole once the cache cannot hold what is read."""

_PAST_END: Final = 1 << 40
_RETRY_SECONDS: Final = 60.0
_MOST_OPEN: Final = 1024


class CachedObject(NamedTuple):
    """An object as a cache knows it."""

    key: str
    size: int

    is_told_apart: bool
    """Whether its stamp would be another one if it was changed; else nothing of it is kept."""

    name: str
    """Its address, for messages."""


class Blocks:
    """Blocks of objects in segments; for any number of threads.

    Args:
        space: The space that they take.
        limit: Bytes that the cache may take; None for no limit.
        block_bytes: Bytes of a block.
        warn: Called with the kind of a trouble, and with what a user should know of it.
    """

    def __init__(self, space: Space, limit: int | None, block_bytes: int, warn: Callable[[str, str], None]) -> None:
        self._space, self._limit, self._block_bytes, self._warn = space, limit, block_bytes, warn
        most = BLOCKS if limit is None else limit // (_SEGMENTS_OF_LIMIT * block_bytes)
        self._per_segment = max(1, min(BLOCKS, most))
        self._segment_bytes = self._per_segment * block_bytes
        self._at_once = _MOST_FETCHED if limit is None else min(_MOST_FETCHED, limit // _FETCHED_OF_LIMIT)
        self._home = str(space.blocks / f"{block_bytes}x{self._per_segment}")
        self._segments: dict[tuple[str, int], Segment] = {}  # by key of the object and number
        self._most_open = max(16, min(_MOST_OPEN, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))
        self._generation = 0
        self._began = time.time()
        self._is_short = False  # more is read than the limit holds
        self._stores_from = 0.0  # when storing is tried again, after a failure
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Make anew what threads of the parent may hold."""
        self._lock = threading.Lock()
        self._fetching: dict[tuple[str, int, int], threading.Event] = {}

    def ranges(
        self, objects: Sequence[CachedObject], of: np.ndarray, starts: np.ndarray, ends: np.ndarray, fetch: Fetch
    ) -> list[bytes]:
        """Return the bytes of ranges; see `Cache.ranges_of`."""
        self._forget_removed()
        pieces = Pieces.of_ranges(of, starts, ends, self._segment_bytes)
        found: list[Any] = [b""] * len(pieces.listed)
        left = self._read(objects, pieces.listed, found)
        for group in self._groups(pieces.listed, left):
            self._fill(objects, pieces.listed, group, found, fetch)
        return pieces.of_all(found)

    # -- reading --------------------------------------------------------------------------------------------------------

    def _read(self, objects: Sequence[CachedObject], pieces: list[_Piece], found: list[Any]) -> list[int]:
        """Read the pieces of which all blocks were checked, and return those of which some were not."""
        left: list[int] = []
        now, block_bytes, pread = time.monotonic(), self._block_bytes, os.pread
        open_here: dict[tuple[int, int], tuple[int, bytearray]] = {}
        used: list[Segment] = []  # so that none is closed meanwhile
        for at, (of, number, begin, size) in enumerate(pieces):
            known = open_here.get((of, number))
            if not size:
                continue
            if known is None:
                segment = self._segments.get((objects[of].key, number))
                if segment is None:
                    left.append(at)
                    continue
                used.append(segment)
                known = open_here[of, number] = (segment.fd, segment.ready)
            fd, ready = known
            first, last = begin // block_bytes, (begin + size - 1) // block_bytes
            if not ready[first] or (first != last and ready.find(0, first, last + 1) >= 0):
                left.append(at)
                continue
            try:
                content = pread(fd, size, HEADER_BYTES + begin)
            except OSError:  # of a failing disk
                content = b""
            found[at] = content
            if len(content) != size:  # somebody cut the file
                self._segments.pop((objects[of].key, number), None)
                left.append(at)
        for segment in used:
            segment.touch(now)
        return left

    def _groups(self, pieces: list[_Piece], left: list[int]) -> Iterator[list[int]]:
        """Yield pieces in groups whose blocks are fetched at once."""
        group: list[int] = []
        blocks: set[_Place] = set()
        for piece in left:
            more = blocks.union(self._places(pieces[piece]))
            if group and len(more) * self._block_bytes > self._at_once:
                yield group
                group, more = [], set(self._places(pieces[piece]))
            group.append(piece)
            blocks = more
        if group:
            yield group

    def _places(self, piece: _Piece) -> list[_Place]:
        of, number, begin, size = piece
        first, last = begin // self._block_bytes, max(begin + size - 1, begin) // self._block_bytes
        return [(of, number, block) for block in range(first, last + 1)]

    def _is_there(self, found: CachedObject, place: _Place) -> bool:
        """Return whether a block is there, and check it."""
        segment = self._segment(found.key, place[1], writes=False)
        start, end = self._range_of(found, place)
        try:
            return segment is not None and segment.check(place[2], end - start)
        except OSError:
            return False

    def _range_of(self, found: CachedObject, place: _Place) -> tuple[int, int]:
        """Return the first byte of a block in its object, and its end."""
        start = place[1] * self._segment_bytes + place[2] * self._block_bytes
        return start, min(start + self._block_bytes, found.size)

    # -- segments -------------------------------------------------------------------------------------------------------

    def _segment(self, key: str, number: int, *, writes: bool) -> Segment | None:
        """Return a segment; None if there is none and it is not to be made.

        Raises:
            OSError: It cannot be made.
        """
        with self._lock:
            known = self._segments.get((key, number))
            if known is not None and (known.writes or not writes) and not (writes and known.is_removed()):
                return known
            path = f"{self._home}/{key[:2]}/{key[2:]}/{number}"
            try:
                segment = Segment(path, self._block_bytes, writes=writes)
            except OSError:
                if writes:
                    raise
                return None
            if known is not None and not known.is_removed():
                segment.ready[:] = known.ready
            self._segments[key, number] = segment
            if len(self._segments) > self._most_open:
                by_use = sorted(self._segments, key=lambda each: self._segments[each].used)
                for each in by_use[: self._most_open // 4]:
                    self._segments.pop(each).touch_file()
            return segment

    def _forget_removed(self) -> None:
        """Close segments that some process has removed, whose bytes the disk takes back then."""
        generation = self._space.generation()
        if generation != self._generation:
            self._generation = generation
            with self._lock:
                for key in [key for key, segment in self._segments.items() if segment.is_removed()]:
                    del self._segments[key]

    def _note_uses(self) -> None:
        with self._lock:
            for segment in self._segments.values():
                segment.touch_file()

    # -- fetching -------------------------------------------------------------------------------------------------------

    def _fill(
        self,
        objects: Sequence[CachedObject],
        pieces: list[_Piece],
        group: list[int],
        found: list[Any],
        fetch: Fetch,
    ) -> None:
        """Read pieces of which blocks may be missing: fetch those, whole if they are to be kept, and store them."""
        asked = self._asked(objects, pieces, group)
        missing = [place for place in asked if not self._is_there(objects[place[0]], place)]
        apart = self._not_to_be_kept(objects, asked, missing)
        exact = [piece for piece in group if not apart.isdisjoint(self._places(pieces[piece]))]
        rest = [piece for piece in group if piece not in set(exact)]
        needed = {place for piece in rest for place in self._places(pieces[piece])}
        own, others = self._claimed(objects, [place for place in missing if place in needed])
        try:
            wanted = [(place[0], *self._range_of(objects[place[0]], place)) for place in own]
            fetched = _fetched(objects, wanted + [self._whole(pieces[piece]) for piece in exact], fetch)
            held = dict(zip(own, fetched, strict=False))
            if held:
                self._store(objects, held)
        finally:
            self._release(objects, own)
        for piece, content in zip(exact, fetched[len(own) :], strict=True):
            found[piece] = content
        for event in others:
            event.wait()
        late: list[int] = []
        for piece in rest:
            found[piece] = self._put_together(objects, pieces[piece], held)
            if found[piece] is None:  # what another thread fetched could not be kept, for example
                late.append(piece)
        if late:
            again = _fetched(objects, [self._whole(pieces[piece]) for piece in late], fetch)
            for piece, content in zip(late, again, strict=True):
                found[piece] = content

    def _asked(self, objects: Sequence[CachedObject], pieces: list[_Piece], group: list[int]) -> dict[_Place, int]:
        """Return how many bytes of each block are asked for; more than a block has if a piece goes past the end."""
        asked: dict[_Place, int] = {}
        for piece in group:
            of, number, begin, size = pieces[piece]
            for place in self._places(pieces[piece]):
                first = place[2] * self._block_bytes
                part = min(begin + size, first + self._block_bytes) - max(begin, first)
                is_past = number * self._segment_bytes + begin + size > objects[of].size
                asked[place] = asked.get(place, 0) + (part if not is_past else _PAST_END)
        return asked

    def _not_to_be_kept(
        self, objects: Sequence[CachedObject], asked: dict[_Place, int], missing: list[_Place]
    ) -> set[_Place]:
        """Return those of the missing blocks of which no more is fetched than what is asked for."""
        if not missing or not self._may_store():
            return set(missing)
        least = self._block_bytes // _SPARSE if self._is_short else 0
        return {
            place
            for place in missing
            if not objects[place[0]].is_told_apart or asked[place] >= _PAST_END or asked[place] < least
        }

    def _whole(self, piece: _Piece) -> tuple[int, int, int]:
        """Return object, first byte and end of a piece."""
        of, number, begin, size = piece
        start = number * self._segment_bytes + begin
        return of, start, start + size

    def _put_together(self, objects: Sequence[CachedObject], piece: _Piece, held: dict[_Place, bytes]) -> bytes | None:
        """Return the bytes of a piece from blocks that are held, or are there by now; None if one is not."""
        of, number, begin, size = piece
        parts = []
        for place in self._places(piece):
            first = place[2] * self._block_bytes
            start, end = max(begin, first), min(begin + size, first + self._block_bytes)
            content = held.get(place)
            if content is not None:
                parts.append(content[start - first : end - first])
            elif self._is_there(objects[of], place):
                segment = self._segment(objects[of].key, number, writes=False)
                parts.append(b"" if segment is None else segment.read(start, end - start))
            if not parts or len(parts[-1]) != end - start:
                return None
        whole = b"".join(parts) if len(parts) > 1 else parts[0]
        return whole if len(whole) == size else None

    # -- storing --------------------------------------------------------------------------------------------------------

    def _may_store(self) -> bool:
        if self._block_bytes > self._at_once:
            self._warn(
                "limit",
                f"no blocks are kept: cache_bytes={self._limit} has no room for {_FETCHED_OF_LIMIT} blocks of "
                f"{self._block_bytes:,} bytes; give it more",
            )
            return False
        return time.monotonic() >= self._stores_from

    def _store(self, objects: Sequence[CachedObject], blocks: dict[_Place, bytes]) -> None:
        """Store blocks; whatever fails is warned of once, and they are served all the same."""
        try:
            if not self._space.reserve(
                sum(map(len, blocks.values())) + HEADER_BYTES * len({place[:2] for place in blocks}), self._note_uses
            ):
                return
            for (of, number, block), content in blocks.items():
                segment = self._segment(objects[of].key, number, writes=True)
                if segment is not None:
                    segment.write(block, content)
        except OSError as error:
            self._stores_from = time.monotonic() + _RETRY_SECONDS
            self._warn("disk", f"what is fetched is served without being kept: {error}")
        if self._space.last_removed_use > self._began and not self._is_short:
            self._is_short = True
            self._warn(
                "short",
                f"more is read than cache_bytes={self._limit} holds, so that blocks are removed that would be read again; give "
                "it as many bytes as the data has",
            )

    def _claimed(
        self, objects: Sequence[CachedObject], missing: list[_Place]
    ) -> tuple[list[_Place], list[threading.Event]]:
        """Return the blocks that this thread is to fetch, and what tells that others have fetched the rest."""
        own, others = [], []
        with self._lock:
            for place in missing:
                name = (objects[place[0]].key, *place[1:])
                event = self._fetching.get(name)
                if event is None:
                    self._fetching[name] = threading.Event()
                    own.append(place)
                else:
                    others.append(event)
        return own, others

    def _release(self, objects: Sequence[CachedObject], own: list[_Place]) -> None:
        with self._lock:
            events = [self._fetching.pop((objects[place[0]].key, *place[1:]), None) for place in own]
        for event in events:
            if event is not None:
                event.set()


def _fetched(objects: Sequence[CachedObject], wanted: list[tuple[int, int, int]], fetch: Fetch) -> list[bytes]:
    """Fetch ranges of (object, first byte, end).

    Raises:
        ConnectionError: ``fetch`` returned fewer bytes than it was asked for.
    """
    if not wanted:
        return []
    of, starts, ends = np.asarray(wanted, np.int64).T
    fetched = fetch(of, starts, ends)
    for (each, start, end), content in zip(wanted, fetched, strict=True):
        if len(content) != end - start:
            raise ConnectionError(
                f"{objects[each].name}: bytes {start} to {end} were asked for, and {len(content)} bytes came"
            )
    return fetched
