"""Column of one feature over a batch: payloads of bytes, floats or integers to values of its dtype."""

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
_LONGEST_VARINT = 10  # bytes of a 64-bit integer, which has seven bits in each


class FeatureSpec(NamedTuple):
    """Feature to decode: its dtype, its shape, and the default of records that lack it."""

    name: str
    dtype: np.dtype[Any]
    """Dtype of the column; that of objects for bytes and text."""

    shape: tuple[int, ...]
    is_text: bool = False
    """Whether the objects are text, not bytes."""

    default: AnyArray | None = None
    """Value of records that lack the feature, which broadcasts to ``shape``; None raises for them."""

    @property
    def size(self) -> int:
        """Number of values in a record."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        dtype = ("str" if self.is_text else "bytes") if self.dtype == _OBJECT else self.dtype
        return f"{dtype}{list(self.shape)}"


class FeatureColumn:
    """Column of one feature, which is filled by groups of rows.

    Args:
        spec: The feature.
        count: Number of rows.
    """

    def __init__(self, spec: FeatureSpec, count: int) -> None:
        self._spec = spec
        shape = (count, *spec.shape)
        self.array = np.empty(shape, object) if spec.dtype == _OBJECT else aligned_empty(shape, spec.dtype)
        self._flat = self.array.reshape(count, -1) if spec.size else None

    def put_default(self, rows: Rows, found: Sequence[str]) -> None:
        """Put the default into rows whose records lack the feature, and have the features ``found``."""
        if self._spec.default is None:
            has = ", ".join(map(repr, found))
            raise ValueError(f"the feature {self._spec.name!r} is missing; the record has {has or 'no features':.200}")
        self.array[rows] = self._spec.default

    def put_spans(self, rows: list[int], kind: int, joined: bytes, starts: AnyArray, stops: AnyArray) -> None:
        """Put the payloads ``starts .. stops`` of ``joined`` into these rows."""
        if self._spec.dtype == _OBJECT:
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
        """Return the memory of all rows, uint8 (rows, bytes), if payloads of ``size`` bytes need no conversion; else None."""
        spec = self._spec
        is_raw = kind == BYTES or (kind == FLOATS and spec.dtype == np.float32)
        fits = is_raw and size == spec.size * spec.dtype.itemsize
        return None if self._flat is None or spec.dtype == _OBJECT or not fits else self._flat.view(np.uint8)

    def put(self, rows: list[int], kind: int, payloads: list[Payload]) -> None:
        """Put payloads, which may differ in length, into these rows."""
        if self._spec.dtype == _OBJECT:
            self._put_objects(_places(rows), kind, payloads)
            return
        groups: dict[int, list[int]] = {}
        for place, payload in enumerate(payloads):
            if not isinstance(payload, bytes):
                raise self._mismatch(f"a bytes_list of {len(payload)} values")
            groups.setdefault(len(payload), []).append(place)
        for length, places in groups.items():
            joined = b"".join([payloads[place] for place in places])  # type: ignore[misc]  # all are bytes, checked above
            block = np.frombuffer(joined, np.uint8).reshape(len(places), length)
            self.put_block([rows[place] for place in places], kind, block)

    def put_block(self, rows: Rows, kind: int, block: AnyArray) -> None:
        """Put payloads of one length, uint8 (rows, bytes), into these rows."""
        if self._spec.dtype == _OBJECT:
            joined, size = block.tobytes(), block.shape[1]
            self._put_objects(rows, kind, [joined[at * size : (at + 1) * size] for at in range(len(block))])
        elif kind == BYTES:
            self._put_raw(rows, block)
        elif kind == FLOATS:
            self._put_floats(rows, block)
        else:
            self._put_integers(rows, block)

    def _put_raw(self, rows: Rows, block: AnyArray) -> None:
        expected = self._spec.size * self._spec.dtype.itemsize
        if block.shape[1] != expected:
            raise self._mismatch(f"{block.shape[1]} bytes", f"the {expected} bytes of {self._spec}")
        if self._flat is not None:
            self._flat.view(np.uint8)[rows] = block

    def _put_floats(self, rows: Rows, block: AnyArray) -> None:
        spec = self._spec
        if not jnp.issubdtype(spec.dtype, np.floating):
            raise self._mismatch("a float_list", f"{spec}, an int64_list or raw bytes,")
        if block.shape[1] != 4 * spec.size:
            raise self._mismatch(f"a float_list of {block.shape[1] / 4:g} values")
        if self._flat is None:
            return
        values = np.ascontiguousarray(block).view("<f4")
        if spec.dtype == np.float32:
            self._flat[rows] = values
            return
        with np.errstate(all="ignore"):
            fitted = values.astype(spec.dtype)
        lost = np.isfinite(values) != np.isfinite(fitted.astype(np.float32))
        if lost.any():
            raise self._mismatch(f"the value {values[lost][0]:g}", f"a number that {spec.dtype} holds")
        self._flat[rows] = fitted

    def _put_integers(self, rows: Rows, block: AnyArray) -> None:
        spec = self._spec
        if not (jnp.issubdtype(spec.dtype, np.integer) or spec.dtype == np.bool_):
            raise self._mismatch("an int64_list", f"{spec}, a float_list or raw bytes,")
        values = self._integers(block)
        if self._flat is None:
            return
        low, high = limits(spec.dtype)
        outside = (values < low) | (values > high) if (low, high) != limits(np.dtype(np.int64)) else None
        if outside is not None and outside.any():
            raise self._mismatch(f"the value {values[outside][0]}", f"{spec.dtype}, {low} to {high},")
        self._flat[rows] = values.astype(spec.dtype)

    def _integers(self, block: AnyArray) -> AnyArray:
        """Return packed varints as int64 (records, values): seven bits a byte, the lowest first; the last has its top bit 0."""
        size, length = self._spec.size, block.shape[1]
        is_last = block < 0x80
        if length == size and is_last.all():  # a byte each
            return block.astype(np.int64)
        if length and not is_last[:, -1].all():
            raise self._mismatch("an int64_list that ends within a value")
        counts = is_last.sum(axis=1)
        if (counts != size).any():
            raise self._mismatch(f"an int64_list of {counts[counts != size][0]} values")
        ends = np.flatnonzero(is_last)
        starts = np.concatenate([[0], ends[:-1] + 1])
        widths = ends - starts + 1
        if widths.max() > _LONGEST_VARINT:
            raise self._mismatch(f"an int64_list with a value of {widths.max()} bytes")
        shifts = 7 * (np.arange(block.size) - np.repeat(starts, widths))
        parts = (block.reshape(-1) & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
        return np.add.reduceat(parts, starts).view(np.int64).reshape(len(block), size)

    def _put_objects(self, rows: Rows, kind: int, payloads: list[Payload]) -> None:
        spec = self._spec
        if kind != BYTES:
            raise self._mismatch(f"the list {LISTS[kind]}", f"a bytes_list, {spec},")
        if spec.shape == () and not any(isinstance(payload, list) for payload in payloads):
            values = np.empty(len(payloads), object)
            values[:] = [self._text(payload) for payload in payloads] if spec.is_text else payloads  # type: ignore[arg-type]
            self.array[rows] = values
            return
        many = [[payload] if isinstance(payload, bytes) else payload for payload in payloads]
        for values_of_one in many:
            if len(values_of_one) != spec.size:
                raise self._mismatch(f"a bytes_list of {len(values_of_one)} values")
        if self._flat is not None:
            block = np.empty((len(many), spec.size), object)
            block[:] = [[self._text(value) for value in one] if spec.is_text else one for one in many]
            self._flat[rows] = block

    def _text(self, value: bytes) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"the feature {self._spec.name!r} is declared as str, and its bytes {value!r:.80} are no UTF-8 text; "
                "declare it as bytes"
            ) from error

    def result(self) -> AnyArray:
        """Return the column after all rows were put in."""
        if wrong := invalid_byte(self.array):
            raise ValueError(f"the feature {self._spec.name!r} is {self._spec}, and {wrong}")
        return self.array

    def _mismatch(self, found: str, expected: str = "") -> ValueError:
        return ValueError(f"the feature {self._spec.name!r} has {found} where {expected or self._spec} is expected")


def _places(rows: list[int]) -> Rows:
    """Return ascending rows as a slice if they are consecutive, else unchanged."""
    return slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] == len(rows) - 1 else rows


def _copy(joined: bytes, starts: list[int], target: AnyArray, rows: list[int]) -> None:
    """Copy the bytes from each start to its row of ``target``, without an intermediate array."""
    size = target.shape[1]
    source, memory = memoryview(joined), target.reshape(-1).data
    for row, start in zip(rows, starts, strict=True):
        memory[row * size : (row + 1) * size] = source[start : start + size]


def _block(joined: bytes, starts: AnyArray, size: int) -> AnyArray:
    """Return ``size`` bytes from each start, uint8 (starts, size)."""
    windows = np.ndarray((len(joined) - size + 1, size), np.uint8, joined, 0, (1, 1))
    return windows[starts]
