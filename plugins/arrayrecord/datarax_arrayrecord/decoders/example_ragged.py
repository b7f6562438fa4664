"""Column of one feature of varying length over a batch: payloads of all records at once to values and offsets."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from datarax_core.records import Ragged

from .dtypes import AnyArray, invalid_byte
from .example_specs import FeatureSpec, integers
from .example_values import Rows
from .example_wire import BYTES, FLOATS, Payload
from .joined import Payloads

_Counts = npt.NDArray[np.int64]


class RaggedFeatureColumn:
    """Column of one feature whose first axis varies, which is filled by groups of rows, each row once.

    Args:
        spec: The feature.
        count: Number of rows.
    """

    def __init__(self, spec: FeatureSpec, count: int) -> None:
        self._spec, self._count = spec, count
        # of each group: its rows, the lengths of their first axes, and their values one after another
        self._rows: list[AnyArray] = []
        self._lengths: list[_Counts] = []
        self._values: list[AnyArray] = []

    def put_default(self, rows: Rows, found: Sequence[str]) -> None:
        """Put the default into rows whose records lack the feature, and have the features ``found``."""
        default, places = self._spec.require_default(found), self._places(rows)
        counts = np.full(len(places), default.size, np.int64)
        self._add(places, np.tile(default.reshape(-1), len(places)), counts)

    def put_payloads(self, rows: Rows, kind: int, payloads: Payloads) -> None:
        """Put payloads, given by their places in joined records, into these rows."""
        if self._spec.holds_objects:
            self._spec.require_bytes(kind)
            values = np.empty(len(payloads), object)
            values[:] = self._spec.values_of(payloads)
            self._add(self._places(rows), values, np.ones(len(payloads), np.int64))
        else:
            self._put_packed(rows, kind, payloads.packed(), payloads.sizes())

    def put(self, rows: list[int], kind: int, payloads: list[Payload]) -> None:
        """Put payloads into these rows; of numbers, several values of bytes are the items of the first axis."""
        if self._spec.holds_objects:
            self._put_objects(rows, kind, payloads)
            return
        joined = [payload if isinstance(payload, bytes) else self._joined_items(payload) for payload in payloads]
        self._put_packed(rows, kind, b"".join(joined), np.fromiter(map(len, joined), np.int64, len(joined)))

    def result(self) -> Ragged:
        """Return the column after all rows were put in."""
        values = self._values[0] if len(self._values) == 1 else np.concatenate(self._values)
        if wrong := invalid_byte(values):
            raise ValueError(f"the feature {self._spec.name!r} is {self._spec}, and {wrong}")
        rows, lengths = np.concatenate(self._rows), np.concatenate(self._lengths)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        column = Ragged(values.reshape(-1, *self._spec.shape[1:]), offsets)
        if (rows[1:] > rows[:-1]).all():
            return column
        place_of = np.empty(self._count, np.int64)
        place_of[rows] = np.arange(self._count)
        return column.take(place_of)

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _put_packed(self, rows: Rows, kind: int, packed: bytes, sizes: _Counts) -> None:
        """Put numbers into these rows, given the bytes of all of them, and of each how many of these it has."""
        spec = self._spec
        if kind == BYTES:
            values, counts = self._whole(packed, sizes, spec.dtype, "bytes")
        elif kind == FLOATS:
            spec.require_floats()
            values, counts = self._whole(packed, sizes, np.dtype(np.float32), "bytes in a float_list")
            values = spec.of_floats(values)
        else:
            spec.require_integers()
            values, counts = self._integers(packed, sizes)
            values = spec.of_integers(values)
        self._add(self._places(rows), values, counts)

    def _whole(self, packed: bytes, sizes: _Counts, dtype: np.dtype[np.generic], noun: str) -> tuple[AnyArray, _Counts]:
        """Return values of a fixed width, and how many of them each row has."""
        counts, rest = np.divmod(sizes, dtype.itemsize)
        if rest.any():
            raise self._spec.mismatch(f"{sizes[rest > 0][0]} {noun}", f"{self._spec}, {dtype.itemsize} bytes a value,")
        values: AnyArray = np.frombuffer(packed, dtype.newbyteorder("<"))
        return values.astype(dtype, copy=False), counts

    def _integers(self, packed: bytes, sizes: _Counts) -> tuple[AnyArray, _Counts]:
        """Return packed integers as int64, and how many of them each row has."""
        block, stops = np.frombuffer(packed, np.uint8), np.cumsum(sizes)
        is_last = block < 0x80
        if not is_last[stops[sizes > 0] - 1].all():
            raise self._spec.mismatch("an int64_list that ends within a value")
        try:
            values = integers(block, is_last)
        except ValueError as error:
            raise self._spec.mismatch(f"an int64_list with {error}") from None
        if len(values) == len(block):  # a byte each
            return values, sizes
        counts, has_some = np.zeros_like(sizes), sizes > 0
        counts[has_some] = np.add.reduceat(is_last, (stops - sizes)[has_some], dtype=np.int64)
        return values, counts

    def _put_objects(self, rows: Rows, kind: int, payloads: Sequence[Payload]) -> None:
        self._spec.require_bytes(kind)
        many = [[payload] if isinstance(payload, bytes) else payload for payload in payloads]
        counts = np.fromiter(map(len, many), np.int64, len(many))
        values = np.empty(int(counts.sum()), object)
        values[:] = [self._spec.of_bytes(value) for one in many for value in one]
        self._add(self._places(rows), values, counts)

    def _joined_items(self, items: list[bytes]) -> bytes:
        """Return the bytes of an array, given those of each item of its first axis."""
        size = self._spec.size * self._spec.dtype.itemsize
        for item in items:
            if len(item) != size:
                raise self._spec.mismatch(
                    f"a bytes_list of {len(items)} values, one of them with {len(item)} bytes,",
                    f"{self._spec}, {size} bytes an item,",
                )
        return b"".join(items)

    def _add(self, rows: AnyArray, values: AnyArray, counts: _Counts) -> None:
        size = self._spec.size
        lengths, rest = (counts, None) if size == 1 else np.divmod(counts, size)
        if rest is not None and rest.any():
            raise self._spec.mismatch(f"{counts[rest > 0][0]} values", f"{self._spec}, {size} values an item,")
        self._rows.append(rows)
        self._lengths.append(lengths)
        self._values.append(values)

    def _places(self, rows: Rows) -> AnyArray:
        return np.arange(self._count)[rows]
