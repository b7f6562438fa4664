"""The values of one feature over a batch: payloads of bytes, floats or integers, as a column of its dtype."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np

from datarax_core.records import aligned_empty, limits

from .dtypes import AnyArray, invalid_byte
from .example_wire import BYTES, FLOATS, LISTS, Payload

Rows: TypeAlias = "slice | list[int] | AnyArray"
_OBJECT = np.dtype(object)
_LONGEST = 10  # bytes of a 64-bit integer at seven bits each


class Wanted(NamedTuple):
    """A feature to decode, with the value of records that do not have it, if there is one."""

    name: str
    dtype: np.dtype[Any]
    """Of objects, where the values are bytes or text."""

    shape: tuple[int, ...]
    is_text: bool = False
    default: AnyArray | None = None

    @property
    def size(self) -> int:
        """How many values a record has."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        dtype = ("str" if self.is_text else "bytes") if self.dtype == _OBJECT else self.dtype
        return f"{dtype}{list(self.shape)}"


class Column:
    """The values of one feature, put in group by group of rows."""

    def __init__(self, wanted: Wanted, count: int) -> None:
        self._wanted = wanted
        shape = (count, *wanted.shape)
        self.array = np.empty(shape, object) if wanted.dtype == _OBJECT else aligned_empty(shape, wanted.dtype)
        self._flat = self.array.reshape(count, -1) if wanted.size else None

    def put_default(self, rows: Rows, found: Sequence[str]) -> None:
        """Records that do not have the feature, but those that were ``found``."""
        if self._wanted.default is None:
            has = ", ".join(map(repr, found))
            raise ValueError(
                f"the feature {self._wanted.name!r} is missing; the record has {has or 'no features':.200}"
            )
        self.array[rows] = self._wanted.default

    def put_spans(self, rows: list[int], kind: int, joined: bytes, starts: AnyArray, stops: AnyArray) -> None:
        """Put in records whose payloads stand from ``starts`` to ``stops`` in ``joined``."""
        if self._wanted.dtype == _OBJECT:
            spans = zip(starts.tolist(), stops.tolist(), strict=True)
            self._put_objects(_places(rows), kind, [joined[start:stop] for start, stop in spans])
            return
        sizes = stops - starts
        if (sizes == sizes[0]).all():
            target = self.target(kind, int(sizes[0]))
            if target is not None:
                _copy(joined, starts.tolist(), target, rows)
            else:
                self.put_block(_places(rows), kind, _block(joined, starts, int(sizes[0])))
            return
        for size in sorted(set(sizes.tolist())):
            places = np.flatnonzero(sizes == size)
            self.put_block([rows[place] for place in places.tolist()], kind, _block(joined, starts[places], size))

    def target(self, kind: int, size: int) -> AnyArray | None:
        """The memory of all rows, if payloads of ``size`` bytes can be copied there as they are; else None."""
        wanted = self._wanted
        is_raw = kind == BYTES or (kind == FLOATS and wanted.dtype == np.float32)
        fits = is_raw and size == wanted.size * wanted.dtype.itemsize
        return None if self._flat is None or wanted.dtype == _OBJECT or not fits else self._flat.view(np.uint8)

    def put(self, rows: list[int], kind: int, payloads: list[Payload]) -> None:
        """Put in records whose payloads may differ in length."""
        if self._wanted.dtype == _OBJECT:
            self._put_objects(_places(rows), kind, payloads)
            return
        groups: dict[int, list[int]] = {}
        for place, payload in enumerate(payloads):
            if not isinstance(payload, bytes):
                raise self._wrong(f"a bytes_list of {len(payload)} values")
            groups.setdefault(len(payload), []).append(place)
        for length, places in groups.items():
            joined = b"".join([payloads[place] for place in places])  # type: ignore[misc]  # bytes, as was seen
            block = np.frombuffer(joined, np.uint8).reshape(len(places), length)
            self.put_block([rows[place] for place in places], kind, block)

    def put_block(self, rows: Rows, kind: int, block: AnyArray) -> None:
        """Put in records whose payloads are of one length: a row of bytes each."""
        if self._wanted.dtype == _OBJECT:
            joined, size = block.tobytes(), block.shape[1]
            self._put_objects(rows, kind, [joined[at * size : (at + 1) * size] for at in range(len(block))])
        elif kind == BYTES:
            self._put_raw(rows, block)
        elif kind == FLOATS:
            self._put_floats(rows, block)
        else:
            self._put_integers(rows, block)

    def _put_raw(self, rows: Rows, block: AnyArray) -> None:
        expected = self._wanted.size * self._wanted.dtype.itemsize
        if block.shape[1] != expected:
            raise self._wrong(f"{block.shape[1]} bytes", f"the {expected} bytes of {self._wanted}")
        if self._flat is not None:
            self._flat.view(np.uint8)[rows] = block

    def _put_floats(self, rows: Rows, block: AnyArray) -> None:
        wanted = self._wanted
        if not jnp.issubdtype(wanted.dtype, np.floating):
            raise self._wrong("a float_list", f"{wanted}, an int64_list or raw bytes,")
        if block.shape[1] != 4 * wanted.size:
            raise self._wrong(f"a float_list of {block.shape[1] / 4:g} values")
        if self._flat is None:
            return
        values = np.ascontiguousarray(block).view("<f4")
        if wanted.dtype == np.float32:
            self._flat[rows] = values
            return
        with np.errstate(all="ignore"):
            fitted = values.astype(wanted.dtype)
        lost = np.isfinite(values) != np.isfinite(fitted.astype(np.float32))
        if lost.any():
            raise self._wrong(f"the value {values[lost][0]:g}", f"a number that {wanted.dtype} holds")
        self._flat[rows] = fitted

    def _put_integers(self, rows: Rows, block: AnyArray) -> None:
        wanted = self._wanted
        if not (jnp.issubdtype(wanted.dtype, np.integer) or wanted.dtype == np.bool_):
            raise self._wrong("an int64_list", f"{wanted}, a float_list or raw bytes,")
        values = self._integers(block)
        if self._flat is None:
            return
        low, high = limits(wanted.dtype)
        outside = (values < low) | (values > high) if (low, high) != limits(np.dtype(np.int64)) else None
        if outside is not None and outside.any():
            raise self._wrong(f"the value {values[outside][0]}", f"{wanted.dtype}, {low} to {high},")
        self._flat[rows] = values.astype(wanted.dtype)

    def _integers(self, block: AnyArray) -> AnyArray:
        """int64 (records, values): of integers packed as seven bits a byte, the lowest first; bit eight ends one."""
        size, length = self._wanted.size, block.shape[1]
        is_last = block < 0x80
        if length == size and is_last.all():  # a byte each
            return block.astype(np.int64)
        if length and not is_last[:, -1].all():
            raise self._wrong("an int64_list that ends within a value")
        counts = is_last.sum(axis=1)
        if (counts != size).any():
            raise self._wrong(f"an int64_list of {counts[counts != size][0]} values")
        ends = np.flatnonzero(is_last)
        starts = np.concatenate([[0], ends[:-1] + 1])
        widths = ends - starts + 1
        if widths.max() > _LONGEST:
            raise self._wrong(f"an int64_list with a value of {widths.max()} bytes")
        shifts = 7 * (np.arange(block.size) - np.repeat(starts, widths))
        parts = (block.reshape(-1) & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
        return np.add.reduceat(parts, starts).view(np.int64).reshape(len(block), size)

    def _put_objects(self, rows: Rows, kind: int, payloads: list[Payload]) -> None:
        wanted = self._wanted
        if kind != BYTES:
            raise self._wrong(f"the list {LISTS[kind]}", f"a bytes_list, {wanted},")
        if wanted.shape == () and not any(isinstance(payload, list) for payload in payloads):
            values = np.empty(len(payloads), object)
            values[:] = [self._text(payload) for payload in payloads] if wanted.is_text else payloads  # type: ignore[arg-type]
            self.array[rows] = values
            return
        many = [[payload] if isinstance(payload, bytes) else payload for payload in payloads]
        for values_of_one in many:
            if len(values_of_one) != wanted.size:
                raise self._wrong(f"a bytes_list of {len(values_of_one)} values")
        if self._flat is not None:
            block = np.empty((len(many), wanted.size), object)
            block[:] = [[self._text(value) for value in one] if wanted.is_text else one for one in many]
            self._flat[rows] = block

    def _text(self, value: bytes) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"the feature {self._wanted.name!r} is declared as str, and its bytes {value!r:.80} are no UTF-8 text; "
                "declare it as bytes"
            ) from error

    def finished(self) -> AnyArray:
        """The whole column, when every row was put in."""
        if wrong := invalid_byte(self.array):
            raise ValueError(f"the feature {self._wanted.name!r} is {self._wanted}, and {wrong}")
        return self.array

    def _wrong(self, found: str, expected: str = "") -> ValueError:
        return ValueError(f"the feature {self._wanted.name!r} has {found} where {expected or self._wanted} is expected")


def _places(rows: list[int]) -> Rows:
    """The same rows, ascending as they are; as a slice, if none is left out."""
    return slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] == len(rows) - 1 else rows


def _copy(joined: bytes, starts: list[int], target: AnyArray, rows: list[int]) -> None:
    """Fill these rows with the bytes from the start of each, without an array of all of them on the way."""
    size = target.shape[1]
    source, memory = memoryview(joined), target.reshape(-1).data
    for row, start in zip(rows, starts, strict=True):
        memory[row * size : (row + 1) * size] = source[start : start + size]


def _block(joined: bytes, starts: AnyArray, size: int) -> AnyArray:
    """The bytes from each start, a row each."""
    windows = np.ndarray((len(joined) - size + 1, size), np.uint8, joined, 0, (1, 1))
    return windows[starts]
