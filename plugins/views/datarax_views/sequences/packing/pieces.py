"""Pieces: documents, or parts of documents that are too long for a row, which are packed whole."""

from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import numpy as np

from datarax_core.order import Order

TooLong: TypeAlias = Literal["refuse", "split", "truncate", "drop"]
"""What becomes of a document that is longer than a row."""

_SHUFFLE = (0x7061636B, 0)  # "pack"; with a seed, four numbers of key data, where orders of sources have two


@dataclass(frozen=True, slots=True)
class Pieces:
    """Parts of documents in the sequence in which they are packed.

    Attributes:
        lengths: Integers (p,), 1 or more: the tokens of each piece.
        documents: Integers (p,): the document that each is of; None if piece i is document i.
        begins: Integers (p,): its first token in the document; None if each piece begins with its document.
    """

    lengths: np.ndarray
    documents: np.ndarray | None = None
    begins: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def of(cls, lengths: np.ndarray, row_length: int | None = None, too_long: TooLong = "refuse") -> Self:
        """Return the pieces of documents: none of an empty document, several of one that is split.

        Args:
            lengths: Integers (n,): the tokens of each document.
            row_length: The most tokens of a piece; None for any number.
            too_long: "split" makes pieces of ``row_length`` and one of the rest, "truncate" one of the first ``row_length``
                tokens, "drop" none; "refuse" is for lengths that fit.
        """
        longest = int(lengths.max(initial=0))
        is_over = row_length is not None and longest > row_length
        if not is_over and lengths.all():
            return cls(compact(lengths))
        if row_length is None or not is_over:
            kept = np.flatnonzero(lengths)
            return cls(compact(lengths[kept]), compact(kept))
        if too_long == "split":
            return cls._split(lengths, row_length)
        kept = np.flatnonzero((lengths > 0) & (lengths <= row_length) if too_long == "drop" else lengths)
        return cls(compact(np.minimum(lengths[kept], row_length)), compact(kept))

    @classmethod
    def _split(cls, lengths: np.ndarray, row_length: int) -> Self:
        counts = -(-lengths // row_length)
        documents = np.repeat(np.arange(len(lengths)), counts)
        numbers = np.arange(len(documents)) - np.repeat(np.cumsum(counts) - counts, counts)
        begins = numbers * row_length
        own = np.minimum(lengths[documents] - begins, row_length)
        return cls(compact(own), compact(documents), compact(begins))

    def shuffled(self, seed: int) -> Self:
        """Return the pieces in the sequence of a shuffle that ``seed`` selects."""
        order = shuffle_of(len(self), seed)
        documents = order if self.documents is None else self.documents[order]
        return type(self)(self.lengths[order], documents, None if self.begins is None else self.begins[order])

    def documents_of(self, pieces: np.ndarray) -> np.ndarray:
        """Return int64 (k,): the documents that these pieces are of."""
        return (pieces if self.documents is None else self.documents[pieces]).astype(np.int64, copy=False)

    def begins_of(self, pieces: np.ndarray) -> np.ndarray:
        """Return int64 (k,): the first tokens of these pieces in their documents."""
        return np.zeros(len(pieces), np.int64) if self.begins is None else self.begins[pieces].astype(np.int64)


def shuffle_of(length: int, seed: int) -> np.ndarray:
    """Return integers (length,): the numbers 0 .. length - 1 as core's shuffle orders them for ``seed``."""
    if not length:
        return np.empty(0, np.int32)
    key_data = np.array([*_SHUFFLE, seed >> 32, seed & 0xFFFFFFFF], np.uint32)
    return compact(np.asarray(Order(length).record_indices(0, length, key_data)))


def compact(numbers: np.ndarray) -> np.ndarray:
    """Return numbers in 32 bits if they fit: half of the memory."""
    return numbers.astype(np.int32 if int(numbers.max(initial=0)) < 2**31 else np.int64, copy=False)
