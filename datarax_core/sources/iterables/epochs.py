"""What a stream iterates in each epoch, with its element spec, and where a reader of it stands."""

import inspect
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import jax
import numpy as np

from datarax_core.modules.host_state import HostState
from datarax_core.records.digests import digest_of
from datarax_core.records.elements import spec_of_first_elements
from datarax_core.records.foreign_data import host_array, table_advice
from datarax_core.records.ragged import Ragged
from datarax_core.records.reused import Watch
from datarax_core.records.spec import ElementSpec
from datarax_core.sources.source import DataSourceModule

from .own_states import BySave, OpenIterable, Replayed, encoded, has_exact_state_dict, open_iterable

_PEEKED: Final = 8
_END: Final = object()

SAVING: Final = 20
"""A new state of the iterable is taken once reading took this many times as long as taking the last one."""


class Iterables:
    """The iterables of all epochs, with their element spec; shared by the copies of a source, and outside of their graphs."""

    def __init__(self, make: Any, spec: ElementSpec | None, *, own_state: bool, is_live: bool, title: str) -> None:
        leaves = jax.tree.leaves(spec)
        if spec is not None and not (leaves and all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)):
            raise TypeError(f"the element_spec of {title} has a jax.ShapeDtypeStruct for each field, not {spec!r:.80}")
        self._make = _checked_make(make, title, is_live=is_live)
        self._takes_epoch = _takes_epoch(self._make, title)
        self._given_spec, self._own_state, self._is_live = spec, own_state, is_live
        self.length: int | None = None
        self.batched = False
        self._spec = spec
        self._first: str | None = None
        self._last: Any = None
        self._initial: tuple[Any, ...] = ()
        self._is_loaded = self._is_tried = False
        self.is_reused = False  # whether elements are written into the arrays of those before
        self.live: OpenIterable | None = None
        self.owner: object = None
        self.kind: str | None = None
        self.reason = ""
        self.made = ""

    def __getstate__(self) -> dict[str, Any]:
        if self._is_live:
            raise TypeError("a live stream cannot be pickled: what it gives can be read by one process only")
        return {**vars(self), "_last": None, "_initial": (), "_is_loaded": False, "owner": None}

    @property
    def described(self) -> str:
        """The function or the object that is iterated."""
        name = getattr(self._make, "__name__", None)
        return f"{name}()" if callable(self._make) and name else type(self._make).__name__

    def spec(self, title: str) -> ElementSpec:
        """Return the element spec of a record."""
        if self._spec is None:
            self._look(title)
        return self._spec

    def known_kind(self, title: str) -> str:
        """Return how the iterables go back to a place; opens one to see that."""
        if self.kind is None or (self.kind == BySave.kind and not self._is_tried):
            opened = self.open(0, title)
            next(opened.iterator, None)
            self.state_of(opened)
            opened.close()
        return self.kind or Replayed.kind

    def state_of(self, opened: OpenIterable) -> Any:
        """Return the state of an iterable under way; None if a graph of TensorFlow has none, which only reading shows."""
        try:
            state = opened.save()
        except Exception as error:
            if opened.kind != BySave.kind:
                raise
            self._own_state = False
            self.kind, self.reason = Replayed.kind, _plain(error)
            return None
        self._is_tried = True
        return state

    def fingerprint(self, title: str) -> dict[str, Any]:
        """Return entries of a fingerprint: whether elements are batches, and a checksum of the first ones if they were seen."""
        if self._given_spec is None and self._first is None:
            self._look(title)
        return {"batched": self.batched, "first": self._first}

    def open(self, epoch: int, title: str, saved: "Saved | None" = None) -> OpenIterable:
        """Return the iterable of an epoch under way; from a saved state on, if it is of its kind."""
        if self.live is not None:
            return self.live
        iterable = self._iterable_of(epoch, title)
        self._remember(iterable)
        opened = open_iterable(iterable, own_state=self._own_state, initial=self._initial if self._is_loaded else ())
        self.kind, self.reason, self.made = opened.kind, self.reason or opened.reason, type(iterable).__name__
        self._is_loaded = False
        if saved is not None and saved.kind == opened.kind:
            try:
                opened.restore(saved.state)
            except Exception as error:
                error.add_note(
                    f"while {title} went back to element {saved.index} of epoch {epoch} by the own state of its {self.made}; "
                    "own_state=False reads the elements before it again instead"
                )
                raise
            self._is_loaded = True
        if self._is_live:
            self.live = opened
        return opened

    def _iterable_of(self, epoch: int, title: str) -> Any:
        iterable = self._make
        if callable(self._make) and not _is_iterable(self._make):
            iterable = self._make(epoch) if self._takes_epoch else self._make()
        if not _is_iterable(iterable) or isinstance(iterable, str | bytes | Mapping):
            raise TypeError(
                f"{title} is made of {self.described}, which returned {iterable!r:.80}, where an iterable of elements is "
                "expected, such as a generator or a data set"
            )
        if isinstance(iterable, Iterator) and iterable is self._last:
            raise RuntimeError(
                f"{title} is made of {self.described}, which returned the same {type(iterable).__name__} a second time, where "
                "it has to make a new one; or say is_live=True if it can be read once only"
            )
        if callable(set_epoch := getattr(iterable, "set_epoch", None)):
            set_epoch(epoch)
        return iterable

    def _remember(self, iterable: Any) -> None:
        """Keep the state of an iterable with ``state_dict`` before its first element, with which it starts over."""
        if iterable is self._last:
            return
        self._last, self._initial, self._is_loaded = iterable, (), False
        if self._own_state and has_exact_state_dict(iterable):
            self._initial = (encoded(iterable.state_dict()),)

    def _look(self, title: str) -> None:
        """Find the element spec, and the checksum of the first elements."""
        opened = self.open(0, title)
        found = self._first_elements(opened.iterator, title)
        if self._is_live:
            opened.iterator = chain(found, opened.iterator)
        else:
            self.state_of(opened)
            opened.close()
        if not found:
            raise ValueError(
                f"{title} is made of {self.described}, whose iterable is empty: it has no element that says what records look "
                "like; pass element_spec if it may be empty"
            )
        if self.batched:
            batches = [(batch, num_rows(batch, f"a batch of {title}")) for batch in map(as_batch, found)]
            found = [row for batch, rows in batches for row in rows_of(batch, range(min(rows, _PEEKED)))]
        if self._spec is None:
            self._spec = spec_of_first_elements(lambda rows: [found[row] for row in rows], len(found), title)
        if not self._is_live:
            self._first = digest_of(jax.tree.map(np.asarray, found[0]))

    def _first_elements(self, iterator: Iterator[Any], title: str) -> list[Any]:
        """Return the elements to look at; one that fails, but the first, raises when it is served."""
        found: list[Any] = []
        wanted, watch = 1 if self._is_live else _PEEKED, Watch()
        try:
            while wanted > 0 and (element := next(iterator, _END)) is not _END:
                found.append(watch.seen(element))
                wanted -= max(1, num_rows(as_batch(element), f"a batch of {title}")) if self.batched else 1
        except Exception as error:
            if not found:
                error.add_note(f"while {title} read the first element of {self.made}")
                raise
        self.is_reused = watch.is_reused
        return found


def _checked_make(make: Any, title: str, *, is_live: bool) -> Any:
    remedy = "pass the function that makes it, such as from_iterable(lambda: read('x'))"
    if isinstance(make, DataSourceModule):
        raise TypeError(f"{title} was given {make.title}, which is a source already; use it as it is")
    if advice := table_advice(make):
        raise TypeError(f"{title} was given {advice}")
    if isinstance(make, str | bytes | Mapping) or not (callable(make) or _is_iterable(make)):
        raise TypeError(
            f"{title} was given {make!r:.80}, which is no iterable of elements; pass a function that returns one, such as a "
            "generator function"
        )
    if isinstance(make, Iterator) and not is_live:
        raise TypeError(
            f"{title} was given a {type(make).__name__}, which can be read once only, and an epoch begins anew: {remedy}, or "
            "is_live=True if what it gives cannot be read again"
        )
    return make


def _takes_epoch(make: Any, title: str) -> bool:
    """Return whether a function has one argument that it needs, the epoch."""
    if not callable(make) or _is_iterable(make):
        return False
    try:
        arguments = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # of functions in C
        return False
    needed = [
        one for one in arguments if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if len(needed) > 1 or any(one.kind is one.KEYWORD_ONLY for one in needed):
        raise TypeError(
            f"{title} calls {getattr(make, '__qualname__', make)!s:.80} without arguments, or with the epoch, and it needs "
            f"{', '.join(one.name for one in needed)}; bind them, as functools.partial does"
        )
    return bool(needed)


def _is_iterable(value: Any) -> bool:
    return not isinstance(value, type) and (hasattr(value, "__iter__") or hasattr(value, "as_numpy_iterator"))


def _plain(error: Exception) -> str:
    """Return the message of an error of TensorFlow without the names of its operations."""
    return re.sub(r"\{\{.*?\}\} ?| ?\[Op:.*", "", str(error)).splitlines()[0].strip(" .")[:200]


def as_batch(element: Any) -> Any:
    """Return an element that is a batch with arrays of NumPy for those of other libraries, and lists as they are.

    A list of arrays, as PyTorch's loaders make one of tuples, is a tuple.
    """
    if type(element) is list and element and all(_is_column(value) for value in element):
        element = tuple(element)

    def column(value: Any) -> Any:
        is_foreign = hasattr(value, "__array__") and not isinstance(value, np.ndarray | np.generic | Ragged)
        return host_array(value, lambda: "a field of a batch") if is_foreign else value

    return jax.tree.map(column, element, is_leaf=_is_leaf)


def _is_column(value: Any) -> bool:
    return hasattr(value, "__array__") and bool(getattr(value, "shape", ()))


def _is_leaf(value: Any) -> bool:
    """Return whether a value of a batch is a column: anything but a dict or a tuple, also a list."""
    return not isinstance(value, dict | tuple)


def num_rows(batch: Any, origin: str) -> int:
    """Return the number of records in an element that is a batch; raise if its fields differ in it."""
    lengths = {len(leaf) if hasattr(leaf, "__len__") else None for leaf in columns_in(batch)}
    if len(lengths) != 1 or None in lengths:
        raise ValueError(
            f"{origin} has fields of {', '.join(map(str, sorted(lengths, key=str))) or 'no'} rows; with batched=True an "
            "element is a batch, in which each field has one row a record"
        )
    return int(lengths.pop() or 0)


def columns_in(batch: Any) -> list[Any]:
    """Return the columns of a batch; a list is a column, not structure."""
    return jax.tree.leaves(batch, is_leaf=_is_leaf)


def rows_of(batch: Any, rows: range) -> list[Any]:
    """Return some records of a batch, one by one."""

    def row(number: int) -> Any:
        return jax.tree.map(lambda c: c[number], batch, is_leaf=_is_leaf)

    return [row(number) for number in rows]


# -- where a reader stands -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Saved:
    """The own state of an iterable before record ``index`` of an epoch."""

    epoch: int
    index: int
    kind: str
    state: Any


class Reading(HostState):
    """The iterable that a reader has open, and the latest state of it."""

    def __init__(self, saved: Saved | None = None) -> None:
        self.saved = saved
        self.index = 0
        self._epoch = 0
        self._opened: OpenIterable | None = None
        self._iterables: Iterables | None = None
        self._saved_at = self._cost = 0.0

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the latest state, from which a copy may go on."""
        return (self.saved,)

    def open(self, iterables: Iterables, epoch: int, start: int, title: str) -> OpenIterable:
        """Open the iterable of an epoch, at the latest state before record ``start`` or at its beginning."""
        saved = self.saved_before(epoch, start)
        opened = iterables.open(epoch, title, saved)
        self.index = saved.index if saved is not None and saved.kind == opened.kind else 0
        if opened is iterables.live:
            self.index = start
        self._epoch, self._opened, self._iterables = epoch, opened, iterables
        iterables.owner = self
        return opened

    def passed(self, records: int) -> None:
        """Note that records were read."""
        self.index += records

    def saved_before(self, epoch: int, index: int) -> Saved | None:
        """Return the latest state if it is of this epoch, and not after record ``index``."""
        saved = self.saved
        return saved if saved is not None and saved.epoch == epoch and saved.index <= index else None

    def save_at(self, epoch: int, index: int) -> None:
        """Take the state of the iterable if it stands before this record, and enough was read since the last one."""
        if (self._epoch, self.index) == (epoch, index) and index:
            self.save_now()

    def save_now(self) -> None:
        """Take the state of the iterable if enough was read since the last one."""
        opened, began = self._opened, time.perf_counter()
        is_known = self.saved is not None and (self.saved.epoch, self.saved.index) == (self._epoch, self.index)
        if opened is None or self._iterables is None or opened.kind == Replayed.kind or is_known:
            return
        if self._iterables.owner is not self:  # a twin has begun another iterator, and the state may be of that one
            return
        if began - self._saved_at < SAVING * self._cost:
            return
        if (state := self._iterables.state_of(opened)) is None:
            self._opened = None
            return
        self.saved = Saved(self._epoch, self.index, opened.kind, state)
        self._saved_at = time.perf_counter()
        self._cost = self._saved_at - began

    def close(self, opened: OpenIterable, *, keep: bool) -> None:
        """Close the iterable, unless it is live and has to be kept."""
        if self._opened is opened:
            self._opened = None
        if not keep:
            opened.close()
