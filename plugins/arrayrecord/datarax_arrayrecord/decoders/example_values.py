"""Column of one feature over a batch: payloads of bytes, floats or integers to values of its dtype."""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from datarax_core.records import aligned_empty

from .dtypes import AnyArray, invalid_byte
from .example_specs import FeatureSpec, integers, of_words
from .example_wire import BYTES, FLOATS, INTEGERS, Payload
from .joined import Payloads

Rows: TypeAlias = "slice | list[int] | AnyArray"


class FeatureColumn:
    """Column of one feature, which is filled by groups of rows.

    Args:
        spec: The feature.
        count: Number of rows.
    """

    def __init__(self, spec: FeatureSpec, count: int) -> None:
        self._spec = spec
        fixed = spec.fixed_shape
        shape = (count, *fixed)
        self.array = np.empty(shape, object) if spec.holds_objects else aligned_empty(shape, spec.dtype)
        self._size = math.prod(fixed)
        self._flat = self.array.reshape(count, -1) if self._size else None

    def put_default(self, rows: Rows, found: Sequence[str]) -> None:
        """Put the default into rows whose records lack the feature, and have the features ``found``."""
        self.array[rows] = self._spec.require_default(found)

    def put_payloads(self, rows: Rows, kind: int, payloads: Payloads) -> None:
        """Put payloads, given by their places in joined records, into these rows."""
        if self._spec.holds_objects:
            self._put_objects_of(rows, kind, payloads)
            return
        if kind == INTEGERS and payloads.size is None and self._put_unequal_integers(rows, payloads):
            return
        if payloads.size is not None:
            self.put_block(rows, kind, payloads.block())
            return
        groups = payloads.by_size()
        if len(groups) == 1:
            self.put_block(rows, kind, groups[0][1].block())
            return
        places = np.arange(len(self.array))[rows]
        for at, of_size in groups:
            self.put_block(places[at], kind, of_size.block())

    def put(self, rows: list[int], kind: int, payloads: list[Payload]) -> None:
        """Put payloads, which may differ in length, into these rows."""
        if self._spec.holds_objects:
            self._put_objects(_places(rows), kind, payloads)
            return
        groups: dict[int, list[int]] = {}
        for place, payload in enumerate(payloads):
            if payload and not isinstance(payload, bytes):
                raise self._spec.other_count(f"a bytes_list of {len(payload)} values")
            groups.setdefault(len(payload), []).append(place)
        for length, places in groups.items():
            joined = b"".join([payloads[place] for place in places if length])  # type: ignore[misc]  # bytes, checked above
            block = np.frombuffer(joined, np.uint8).reshape(len(places), length)
            self.put_block([rows[place] for place in places], kind, block)

    def put_block(self, rows: Rows, kind: int, block: AnyArray) -> None:
        """Put payloads of numbers of one length, uint8 (rows, bytes), into these rows."""
        if kind == BYTES:
            self._put_raw(rows, block)
        elif kind == FLOATS:
            self._put_floats(rows, block)
        else:
            self._put_integers(rows, block)

    def _put_raw(self, rows: Rows, block: AnyArray) -> None:
        expected = self._size * self._spec.dtype.itemsize
        if block.shape[1] != expected:
            raise self._spec.mismatch(f"{block.shape[1]} bytes", f"the {expected} bytes of {self._spec}")
        if self._flat is not None:
            self._flat.view(np.uint8)[rows] = block

    def _put_floats(self, rows: Rows, block: AnyArray) -> None:
        spec = self._spec
        spec.require_floats()
        if block.shape[1] != 4 * spec.size:
            raise spec.other_count(f"a float_list of {block.shape[1] / 4:g} values")
        if self._flat is not None:
            self._flat[rows] = spec.of_floats(np.ascontiguousarray(block).view("<f4"))

    def _put_integers(self, rows: Rows, block: AnyArray) -> None:
        self._spec.require_integers()
        values = self._integers(block)
        if self._flat is not None:
            self._flat[rows] = self._spec.of_integers(values)

    def _integers(self, block: AnyArray) -> AnyArray:
        """Return packed integers as int64 (records, values)."""
        size, length = self._size, block.shape[1]
        is_last = block < 0x80
        if length == size and is_last.all():  # a byte each
            return block.astype(np.int64)
        if length and not is_last[:, -1].all():
            raise self._spec.mismatch("an int64_list that ends within a value")
        counts = is_last.sum(axis=1)
        if (counts != size).any():
            raise self._spec.other_count(f"an int64_list of {counts[counts != size][0]} values")
        try:
            return integers(block.reshape(-1), is_last.reshape(-1)).reshape(len(block), size)
        except ValueError as error:
            raise self._spec.mismatch(f"an int64_list with {error}") from None

    def _put_unequal_integers(self, rows: Rows, payloads: Payloads) -> bool:
        """Put packed integers of several lengths into these rows; return False if they are not the right number of integers."""
        spec, sizes = self._spec, payloads.sizes()
        if self._flat is None:
            return False
        values = of_words(payloads.words(), sizes) if self._size == 1 else None
        if values is None:
            values = self._counted_integers(payloads.packed(), sizes)
        if values is None:
            return False
        spec.require_integers()
        self._flat[rows] = spec.of_integers(values.reshape(-1, self._size))
        return True

    def _counted_integers(self, packed: bytes, sizes: AnyArray) -> AnyArray | None:
        """Return packed integers one after another; None unless each payload, of these sizes, has the right number of them."""
        block, stops = np.frombuffer(packed, np.uint8), np.cumsum(sizes)
        is_last = block < 0x80
        if not sizes.all() or not is_last[stops - 1].all():
            return None
        if (np.add.reduceat(is_last, stops - sizes, dtype=np.int64) != self._size).any():
            return None
        try:
            return integers(block, is_last)
        except ValueError:
            return None

    def _put_objects_of(self, rows: Rows, kind: int, payloads: Payloads) -> None:
        if self._spec.shape != () or kind != BYTES:
            self._put_objects(rows, kind, payloads.each())
            return
        values = self._spec.values_of(payloads)
        column = np.empty(len(values), object)
        column[:] = values
        self.array[rows] = column

    def _put_objects(self, rows: Rows, kind: int, payloads: Sequence[Payload]) -> None:
        spec = self._spec
        spec.require_bytes(kind)
        if spec.shape == () and not any(isinstance(payload, list) for payload in payloads):
            values = np.empty(len(payloads), object)
            values[:] = list(map(spec.of_bytes, payloads)) if spec.is_text else payloads  # type: ignore[arg-type]
            self.array[rows] = values
            return
        many = [[payload] if isinstance(payload, bytes) else payload for payload in payloads]
        for values_of_one in many:
            if len(values_of_one) != spec.size:
                raise self._spec.other_count(f"a bytes_list of {len(values_of_one)} values")
        if self._flat is not None:
            block = np.empty((len(many), spec.size), object)
            block[:] = [list(map(spec.of_bytes, one)) if spec.is_text else one for one in many]
            self._flat[rows] = block

    def result(self) -> AnyArray:
        """Return the column after all rows were put in."""
        if wrong := invalid_byte(self.array):
            raise ValueError(f"the feature {self._spec.name!r} is {self._spec}, and {wrong}")
        return self.array


def _places(rows: list[int]) -> Rows:
    """Return ascending rows as a slice if they are consecutive, else unchanged."""
    return slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] == len(rows) - 1 else rows
