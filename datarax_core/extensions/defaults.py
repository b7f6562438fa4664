"""Objects that a process has by default, such as its registries: made when first asked for, and set aside by tests."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")

_made: Final[dict[Callable[[], Any], Any]] = {}

_making: Final = threading.local()
"""``inside``: what a thread has made since it began to make an object; None or absent if it makes none."""


def made_once(make: Callable[[], T]) -> Callable[[], T]:
    """Have a function called once in a process: each call returns the same object. Usable as a decorator.

    Code that ``make`` imports, such as a named file of plugins, may ask for the object itself. It is made for that code then,
    and `read_again` when ``make`` has ended; if that fails, nothing that was made meanwhile is kept.
    """

    @functools.wraps(make)
    def default() -> T:
        if make not in _made:
            outer: list[Callable[[], Any]] | None = getattr(_making, "inside", None)
            inside = _making.inside = list[Callable[[], Any]]()
            try:
                made = make()
            except BaseException:  # of any kind, and raised again
                for other in inside:
                    _made.pop(other, None)
                raise
            finally:
                _making.inside = outer
            if make in inside:
                cast("Any", _made[make]).read_again()
            else:
                _made.setdefault(make, made)  # another thread may have been faster
            if outer is not None:
                outer += [*inside, make]
        return cast("T", _made[make])

    return default


def made_so_far() -> list[Any]:
    """Return the objects that functions of `made_once` made, in that order."""
    return list(_made.values())


@contextmanager
def set_aside() -> Iterator[None]:
    """Have all such objects made anew in a ``with`` block, and those from before it be the defaults again after it."""
    before = dict(_made)
    _made.clear()
    try:
        yield
    finally:
        _made.clear()
        _made.update(before)
