"""Counts of a source's progress: integers that also answer as ``nnx.Variable`` does."""

from collections.abc import Callable
from types import EllipsisType
from typing import Any, Self, overload


class CountValue(int):
    """An integer with the reading methods of an ``nnx.Variable``, which such counts are in the documents of datarax.

    ``get_value()``, ``value`` and ``[...]`` return the number as a plain ``int``. Writing is refused: `reset` and `set_state`
    move a source.
    """

    __slots__ = ()

    def get_value(self) -> int:
        """Return the number."""
        return int(self)

    @property
    def value(self) -> int:
        """The number."""
        return int(self)

    def __getitem__(self, key: EllipsisType) -> int:
        """Return the number for ``count[...]``.

        Raises:
            TypeError: ``key`` is not ``...``.
        """
        if key is not Ellipsis:
            raise TypeError(f"a count of a source is one number, which [...] returns, not [{key!r}]")
        return int(self)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("the counts of a source are read only; reset() and set_state() move it")

    def set_value(self, value: Any) -> None:  # noqa: ARG002 - the signature of a variable
        """Raise TypeError: counts are read only."""
        raise TypeError("the counts of a source are read only; reset() and set_state() move it")


class count_of_cursor:  # noqa: N801 - a decorator, such as property
    """A property that computes a count from the cursor; a source that counts in another way may assign it."""

    def __init__(self, read: Callable[[Any], int]) -> None:
        self._read = read
        self._name = read.__name__
        self.__doc__ = read.__doc__

    @overload
    def __get__(self, source: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, source: object, owner: type | None = None) -> CountValue: ...
    def __get__(self, source: Any, owner: type | None = None) -> Self | CountValue:
        if source is None:
            return self
        own = vars(source)
        return own[self._name] if self._name in own else CountValue(self._read(source))

    def __set__(self, source: Any, value: Any) -> None:
        if source.counts_are_fixed:
            raise AttributeError(f"property {self._name!r} of {type(source).__name__!r} object has no setter")
        vars(source)[self._name] = value
