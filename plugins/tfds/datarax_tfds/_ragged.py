"""Sequences in sequences: the values of all, one after another, and how many belong to each row of each level."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ._fields import OBJECT, Field
from ._items import Item, objects, stacked
from ._numbers import AnyArray, kind_of, varying_numbers
from ._stored import Features, Missing, Records, bytes_values, packed_reader
from ._undecodable import Unfit


@dataclass(frozen=True, kw_only=True)
class RaggedField(Field):
    """A sequence of sequences, in TFDS's form: lists of lists of arrays. Where every size is declared, one array."""

    levels: int
    """How many sequences lie in one another: two at least."""

    item: Item | None = None
    """What makes arrays of the values, if they are bytes that stand for arrays."""

    def fill(self, records: Records, out: AnyArray) -> None:
        """See `Field`."""
        for row, record in enumerate(records.features):
            nested = self._nested(self._flat(record), self._lengths(record))
            if self.is_varying:
                out[row] = nested
            else:
                out[row] = np.asarray(nested, self.dtype).reshape(out[row].shape)

    def _flat(self, record: Features) -> AnyArray:
        key = f"{self.key}/ragged_flat_values"
        if self.item is not None or self.dtype == OBJECT:
            try:
                values = bytes_values(record, key)
            except Missing:
                values = []
            return objects(values) if self.item is None else stacked(self.item, values)
        try:
            packed = packed_reader(kind_of(self.dtype))(record, key)
        except Missing:
            packed = b""
        numbers = next(varying_numbers([packed], self.dtype))
        inner = self.shape[self.levels :]
        try:
            return numbers.reshape(-1, *inner) if len(numbers) or 0 not in inner else numbers.reshape(0, *inner)  # type: ignore[arg-type]  # sizes within a tensor are declared
        except ValueError:
            raise Unfit(f"{len(numbers)} values") from None

    def _lengths(self, record: Features) -> list[list[int]]:
        """Of each level but the outermost, how many values or rows each of its rows has."""
        lengths = []
        for level in range(self.levels - 1):
            try:
                packed = packed_reader("int64_list")(record, f"{self.key}/ragged_row_lengths_{level}")
            except Missing:
                packed = b""
            of_level: list[int] = next(varying_numbers([packed], np.dtype(np.int64))).tolist()
            declared = self.shape[level + 1]
            if any(length < 0 or declared not in (None, length) for length in of_level):
                raise Unfit(f"rows of {of_level} values")
            lengths.append(of_level)
        return lengths

    def _nested(self, flat: AnyArray, lengths: list[list[int]]) -> list[Any]:
        values: Any = flat
        for of_level in reversed(lengths):
            ends = np.cumsum([0, *of_level]).tolist()
            if ends[-1] != len(values):
                raise Unfit(f"{len(values)} values where its rows have {ends[-1]}")
            values = [values[start:end] for start, end in pairwise(ends)]
        if self.shape[0] not in (None, len(values)):
            raise Unfit(f"{len(values)} rows")
        return list(values)
