"""Attributes of modules that compiled programs see by number only, so that a cached program keeps no data set alive."""

import itertools
from typing import Any, Final, Generic, Self, TypeVar, overload
from weakref import WeakKeyDictionary, WeakValueDictionary

T = TypeVar("T")


class HoldsAside:
    """Base of modules with `Aside` attributes: it holds the content of these outside of ``vars()``, which flax takes apart."""

    __slots__ = ("_aside",)


del HoldsAside.__slots__  # flax refuses classes with this attribute; the place for the content stays


class Aside(Generic[T]):
    """An attribute whose content a module holds, and whose place in the module's graph is taken by a `Numbered`.

    ``nnx.jit`` keeps the graph of each module that it was called with, and so would keep the content. Modules that flax splits
    and merges have the same content, compared by identity.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, module: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, module: object, owner: type | None = None) -> T: ...
    def __get__(self, module: Any, owner: type | None = None) -> Self | T:
        if module is None:
            return self
        try:
            content: T = module._aside[self._name]  # noqa: SLF001 - of `HoldsAside`
        except (AttributeError, KeyError):
            return self._adopted(module)
        return content

    def __set__(self, module: Any, value: T) -> None:
        content = value.content if isinstance(value, Numbered) else value
        try:
            held = module._aside  # noqa: SLF001 - of `HoldsAside`
        except AttributeError:
            held = {}
            object.__setattr__(module, "_aside", held)
        held[self._name] = content
        vars(module)[self._name] = Numbered.of(content)

    def __delete__(self, module: Any) -> None:
        getattr(module, "_aside", {}).pop(self._name, None)
        vars(module).pop(self._name, None)

    def _adopted(self, module: Any) -> T:
        """Return the content of a module that holds none, or whose ``vars()`` were set, as pickles set them."""
        if self._name not in vars(module):
            title = type(module).__name__
            raise AttributeError(f"{title!r} object has no attribute {self._name!r}", name=self._name, obj=module)
        value = vars(module)[self._name]
        if isinstance(value, Numbered):
            content: T = value.content
            return content
        self.__set__(module, value)
        adopted: T = value
        return adopted


class Numbered:
    """A content by number: equal for the same content only, and no reason for it to stay. It pickles as the content."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    @classmethod
    def of(cls, content: Any) -> Self:
        """Return the number of a content."""
        if content not in _numbers:
            number = _numbers[content] = next(_count)
            _contents[number] = content
        return cls(_numbers[content])

    @property
    def content(self) -> Any:
        """The content.

        Raises:
            RuntimeError: All modules that held it are gone.
        """
        content = _contents.get(self._number)
        if content is None:
            raise RuntimeError(
                "the data of this graph is gone with the last source or pipeline that held it; keep one of them until the "
                "graph is merged"
            )
        return content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Numbered) and self._number == other._number

    def __hash__(self) -> int:
        return hash((Numbered, self._number))

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self.content,)


def _itself(content: Any) -> Any:
    """Return the argument; pickles name this function."""
    return content


_count: Final = itertools.count()

_contents: Final[WeakValueDictionary[int, Any]] = WeakValueDictionary()
"""Every content by its number; one that no module holds leaves the table."""

_numbers: Final[WeakKeyDictionary[Any, int]] = WeakKeyDictionary()
