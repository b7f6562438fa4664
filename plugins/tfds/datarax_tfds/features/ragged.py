"""Sequences in sequences: the values of all, one after another, and how many belong to each row of each level."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .fields import OBJECT, Field
from .items import Item, objects, stacked
from .numbers import AnyArray, kind_of, numbers_of
from .stored import BYTES, INTEGERS, Features, Missing, Records, Unfit, counted, require_example, several, single

_INT64 = np.dtype(np.int64)


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
            if not record[f"{self.key}/ragged_flat_values"]:
                require_example(records.stored[row])
            nested = self._nested(self._flat(record), self._lengths(record))
            if self.is_varying:
                out[row] = nested
            else:
                out[row] = np.asarray(nested, self.dtype).reshape(out[row].shape)

    def _flat(self, record: Features) -> AnyArray:
        """The values of all rows; TFDS takes what is missing as empty."""
        key = f"{self.key}/ragged_flat_values"
        if self.item is None and self.dtype != OBJECT:
            numbers = numbers_of(_numbers(record, key, kind_of(self.dtype)), self.dtype)
            return _in_units(numbers, self.shape[self.levels :])
        try:
            values = several(record, key, BYTES)
        except Missing:
            values = []
        return (
            _in_units(objects(values), self.shape[self.levels :]) if self.item is None else stacked(self.item, values)
        )

    def _lengths(self, record: Features) -> list[list[int]]:
        """Of each level but the outermost, how many values or rows each of its rows has."""
        lengths = []
        for level, declared in enumerate(self.shape[1 : self.levels]):
            packed = _numbers(record, f"{self.key}/ragged_row_lengths_{level}", INTEGERS)
            of_level: list[int] = numbers_of(packed, _INT64).tolist()
            if any(length < 0 or declared not in (None, length) for length in of_level):
                raise Unfit(f"rows of {of_level} values")
            lengths.append(of_level)
        return lengths

    def _nested(self, flat: AnyArray, lengths: list[list[int]]) -> list[Any]:
        values: Any = flat
        for of_level in reversed(lengths):
            ends = np.cumsum([0, *of_level]).tolist()
            if ends[-1] != len(values):
                raise Unfit(f"{len(values)} values in rows of {ends[-1]}")
            values = [values[start:end] for start, end in pairwise(ends)]
        if self.shape[0] not in (None, len(values)):
            raise Unfit(counted(len(values), "row"))
        return values  # type: ignore[no-any-return]  # a list, of which there is one level at least


def _numbers(record: Features, key: str, kind: int) -> bytes:
    try:
        return single(record, key, kind)
    except Missing:
        return b""


def _in_units(values: AnyArray, shape: tuple[int | None, ...]) -> AnyArray:
    """The values as arrays of a shape that is declared."""
    try:
        return values.reshape(-1, *shape) if len(values) else values.reshape(0, *shape)
    except ValueError:
        raise Unfit(counted(len(values), "value")) from None
