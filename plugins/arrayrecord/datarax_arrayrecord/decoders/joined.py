"""Records of a batch in one array of bytes, and the payloads of a feature in it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, repeat
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from .dtypes import AnyArray

Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_WORD_BYTES: Final = 8
"""Bytes that are read at once."""

_MOST_PADDED: Final = 1.25
"""How many times as many bytes records may take that are padded to one length."""


class Joined:
    """Records one after another, and numbers and bytes at many places in them.

    Records of nearly one length are padded to one, so that a place in all of them is a stride, not a gather.

    Args:
        records: Bytes of the records.
        lengths: Their lengths, int64 (n,).
        spare: Number of bytes that may be read past the end.
    """

    def __init__(self, records: Sequence[bytes], lengths: Places, spare: int) -> None:
        self.records, self.lengths, self.count = records, lengths, len(records)
        self.shortest, self.longest = int(lengths.min()), int(lengths.max())
        spare += _WORD_BYTES
        self.stride = self.longest if self.longest * self.count <= _MOST_PADDED * int(lengths.sum()) else 0
        """Bytes from the begin of a record to that of the next one, if all are equal; else 0."""

        if self.stride and self.shortest < self.longest:
            whole = self.stride * self.count
            self.memory: npt.NDArray[np.uint8] = np.empty(whole + spare, np.uint8)
            self.memory[:whole].view(f"S{self.stride}")[:] = records
            self.memory[whole:] = 0
        else:
            self.memory = np.frombuffer(b"".join([*records, bytes(spare)]), np.uint8)
        self.begins: Places = np.arange(self.count) * self.stride if self.stride else np.cumsum(lengths) - lengths
        self.ends: Places = self.begins + lengths
        count = len(self.memory) - _WORD_BYTES + 1
        self.words: npt.NDArray[np.int64] = np.ndarray((count,), "<i8", self.memory, 0, (1,))
        self.pairs: npt.NDArray[np.uint16] = np.ndarray((count,), "<u2", self.memory, 0, (1,))

    def places(self, at: Places | int) -> Places:
        """Return places, which may be given as the one in each record."""
        return self.begins + at if isinstance(at, int) else at

    def at(self, places: Places | int, size: int) -> AnyArray:
        """Return ``size`` bytes, 1 or more, from each place on, as void (n,)."""
        if isinstance(places, int):
            return np.ndarray((self.count,), f"V{size}", self.memory, places, (self.stride,))
        windows: AnyArray = np.ndarray((len(self.memory) - size + 1,), f"V{size}", self.memory, 0, (1,))
        return windows[places]

    def hold(self, places: Places | int, expected: bytes) -> bool:
        """Return whether all places hold these bytes."""
        return self.at(places, len(expected)).tobytes() == expected * self.count


@dataclass(frozen=True, slots=True)
class Payloads:
    """Payloads of one feature in some records, by their places in the joined bytes."""

    joined: Joined
    starts: Places | int
    """Where they start; a number is the place in each record, which are evenly spaced."""

    size: int | None
    """Number of bytes of each; None if they may differ."""

    stops: Places | None
    """Where they end, if `size` is None."""

    chosen: Flags | None = None
    """Which records they are of; None if of all."""

    def __len__(self) -> int:
        return self.joined.count if isinstance(self.starts, int) else len(self.starts)

    def of(self, chosen: Flags) -> "Payloads":
        """Return the payloads of the chosen records, of those of all."""
        starts, stops = self.joined.places(self.starts)[chosen], None if self.stops is None else self.stops[chosen]
        return Payloads(self.joined, starts, self.size, stops, chosen)

    def block(self) -> AnyArray:
        """Return the payloads, which have one size, as uint8 (n, size); a view where they are evenly spaced."""
        size = self.size or 0
        if isinstance(self.starts, int):
            return np.ndarray((len(self), size), np.uint8, self.joined.memory, self.starts, (self.joined.stride, 1))
        if not size:
            return np.empty((len(self), 0), np.uint8)
        return self.joined.at(self.starts, size).view(np.uint8).reshape(len(self), size)

    def each(self) -> list[bytes]:
        """Return the payloads one by one."""
        return [record[start:stop] for record, start, stop in self._spans()]

    def texts(self) -> list[str]:
        """Return the payloads one by one, as text; raise UnicodeDecodeError if one is not UTF-8."""
        return [record[start:stop].decode() for record, start, stop in self._spans()]

    def packed(self) -> bytes:
        """Return the payloads one after another."""
        return b"".join(self.each())

    def words(self) -> npt.NDArray[np.int64]:
        """Return the first eight bytes from the start of each payload on."""
        words: npt.NDArray[np.int64] = self.joined.words[self.joined.places(self.starts)]
        return words

    def sizes(self) -> Places:
        """Return the number of bytes of each payload."""
        if self.stops is None:
            return np.full(len(self), self.size, np.int64)
        return self.stops - self.joined.places(self.starts)

    def by_size(self) -> "list[tuple[Places | slice, Payloads]]":
        """Return the payloads, whose sizes may differ, in groups of one size, each with its places among them."""
        starts, sizes = self.joined.places(self.starts), self.sizes()
        if (sizes == sizes[0]).all():
            return [(slice(None), Payloads(self.joined, starts, int(sizes[0]), None))]
        places = {size: np.flatnonzero(sizes == size) for size in sorted(set(sizes.tolist()))}
        return [(at, Payloads(self.joined, starts[at], size, None)) for size, at in places.items()]

    def _spans(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield the record of each payload, and where the payload starts and stops in it."""
        records: Iterable[bytes] = self.joined.records
        begins = self.joined.begins
        if self.chosen is not None:
            records, begins = compress(records, self.chosen.tolist()), begins[self.chosen]
        if isinstance(self.starts, int):
            starts: Iterable[int] = repeat(self.starts, len(self))
        else:
            starts = (self.starts - begins).tolist()
        if self.stops is not None:
            stops: Iterable[int] = (self.stops - begins).tolist()
        elif isinstance(self.starts, int):
            stops = repeat(self.starts + (self.size or 0), len(self))
        else:
            stops = (self.starts + (self.size or 0) - begins).tolist()
        return zip(records, starts, stops, strict=True)
