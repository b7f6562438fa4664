"""Tokenizers, whatever library they are of: texts to tokens, and tokens to texts."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, Self, TypeAlias

import numpy as np

Text: TypeAlias = str | tuple[str, str]
"""A text, or a pair of texts, which a tokenizer joins."""


class Encoded(NamedTuple):
    """The tokens of several texts, one text after another.

    Attributes:
        ids: Integers (n,): the ids of all tokens.
        lengths: int64 (k,): the number of tokens of each text.
        spans: int32 (n, 2), if they were asked for: first character of each token, and the one after its last, in its text.
        type_ids: int32 (n,), if they were asked for: 0 for tokens of the first text of a pair, 1 for those of the second.
    """

    ids: np.ndarray
    lengths: np.ndarray
    spans: np.ndarray | None = None
    type_ids: np.ndarray | None = None

    @classmethod
    def of_lists(
        cls,
        rows: Sequence[Sequence[int]],
        spans: Sequence[Sequence[tuple[int, int]]] | None = None,
        type_ids: Sequence[Sequence[int]] | None = None,
    ) -> Self:
        """Return the tokens of lists of ids, one for each text, with their spans and type ids if given."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        total = int(lengths.sum())
        ids = np.fromiter(chain.from_iterable(rows), np.int64, total)
        ends = None if spans is None else chain.from_iterable(chain.from_iterable(spans))
        return cls(
            ids,
            lengths,
            None if ends is None else np.fromiter(ends, np.int32, 2 * total).reshape(total, 2),
            None if type_ids is None else np.fromiter(chain.from_iterable(type_ids), np.int32, total),
        )

    def between(self, first: int | None, last: int | None) -> "Encoded":
        """Return these tokens with the token ``first`` before those of each text, and ``last`` behind; None adds none.

        An added token has the span (0, 0), as libraries have it for tokens that stand for no text, and the type id 0.
        """
        before, added = int(first is not None), int(first is not None) + int(last is not None)
        if not added:
            return self
        rows = np.arange(self.lengths.size)
        places = np.arange(self.ids.size) + np.repeat(rows * added + before, self.lengths)
        lengths = self.lengths + added
        ends = np.cumsum(lengths)

        def spread(values: np.ndarray) -> np.ndarray:
            wider = np.zeros((self.ids.size + rows.size * added, *values.shape[1:]), values.dtype)
            wider[places] = values
            return wider

        ids = spread(self.ids)
        if first is not None:
            ids[ends - lengths] = first
        if last is not None:
            ids[ends - 1] = last
        return Encoded(ids, lengths, *(None if each is None else spread(each) for each in (self.spans, self.type_ids)))


class Tokenizer(ABC):
    """A tokenizer of one library. Its methods may be called by several threads at once.

    Attributes:
        kind: What its file is, in words.
        names_special_tokens: Whether its file may name special tokens that stand around a text, or between two of them.
        known: bool (m,): whether the tokenizer has a token with this id.
    """

    kind: str
    names_special_tokens: bool
    known: np.ndarray

    @abstractmethod
    def encode(
        self, texts: Sequence[Text], *, own_special_tokens: bool, with_spans: bool, with_type_ids: bool
    ) -> Encoded:
        """Return the tokens of texts: all of them, without padding; ``own_special_tokens`` adds those that the file names.

        Raises:
            TypeError: A text holds half of a surrogate pair, which is no text of any encoding.
        """

    @abstractmethod
    def decode(self, rows: Sequence[list[int]], *, special_tokens: bool) -> list[str]:
        """Return the text of each row of known ids; ``special_tokens`` are written out, or left out."""

    @abstractmethod
    def token_id(self, token: str) -> int | None:
        """Return the id of a token; None if there is none that is written so."""

    @abstractmethod
    def special_tokens(self) -> list[str]:
        """Return the tokens that stand for no text, for messages."""

    @property
    def largest_id(self) -> int:
        """The largest id of a token."""
        return int(self.known.size) - 1
