"""States of other libraries' iterables: which of them say where they stand, how they go back there, and their states as JSON.

None of the libraries is imported: an iterable is known by its methods.
"""

import base64
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Final

import numpy as np

from datarax_core.errors import StateError

_BUFFERS: Final = "BufferShuffled"
"""Begins the name of the class in Hugging Face's ``datasets`` that shuffles in a buffer, which its state leaves out."""

_MOST_NODES: Final = 1000


class OpenIterable(ABC):
    """An iterable under way, and its own state."""

    kind: ClassVar[str]
    """The methods that give and take the state: ``state_dict``, ``get_state`` or ``save``; ``replay`` if there are none."""

    def __init__(self, iterator: Iterator[Any], reason: str = "") -> None:
        self.iterator = iterator
        self.reason = reason
        """Why there is no state."""

    @abstractmethod
    def save(self) -> Any:
        """Return the state before the next element, as JSON."""

    @abstractmethod
    def restore(self, state: Any) -> None:
        """Go back to a state that `save` returned, before the first element is read."""

    def close(self) -> None:
        """Close the iterator, if it can be closed."""
        close = getattr(self.iterator, "close", None)
        if callable(close):
            close()


class Replayed(OpenIterable):
    """An iterable without a state: what was read is read again."""

    kind = "replay"

    def save(self) -> None:
        """Return None."""

    def restore(self, state: Any) -> None:
        """Do nothing."""


class ByStateDict(OpenIterable):
    """A data set or loader with ``state_dict``: Hugging Face's ``IterableDataset``, torchdata's ``StatefulDataLoader``.

    The state is that of the iterable, and is loaded before it is iterated.
    """

    kind = "state_dict"

    def __init__(self, iterable: Any, initial: tuple[Any, ...]) -> None:
        self._iterable = iterable
        for state in initial:  # one that was loaded earlier would be the start of each later iterator, too
            iterable.load_state_dict(decoded(state))
        super().__init__(iter(iterable))

    def save(self) -> Any:
        """Return the state of the iterable, which is that of its latest iterator."""
        return encoded(self._iterable.state_dict())

    def restore(self, state: Any) -> None:
        """Load the state, and iterate anew."""
        self.close()
        self._iterable.load_state_dict(decoded(state))
        self.iterator = iter(self._iterable)


class ByIterator(OpenIterable):
    """An iterable whose iterator has the state: Grain's ``get_state`` and ``set_state``, or ``state_dict``."""

    def __init__(self, iterator: Any, get: str, set_: str) -> None:
        super().__init__(iterator)
        self._get, self._set = get, set_

    @property
    def kind(self) -> str:  # type: ignore[override]  # a constant of the others
        """The method that gives the state."""
        return self._get

    def save(self) -> Any:
        """Return the state of the iterator."""
        return encoded(getattr(self.iterator, self._get)())

    def restore(self, state: Any) -> None:
        """Set the state of the iterator."""
        getattr(self.iterator, self._set)(decoded(state))


class BySave(OpenIterable):
    """A ``tf.data.Dataset``, whose iterator of NumPy arrays has ``save`` and ``restore``; a state holds its buffers."""

    kind = "save"

    def save(self) -> str:
        """Return the state of the iterator, which TensorFlow writes as text."""
        saved: bytes = self.iterator.save().numpy()  # type: ignore[attr-defined]  # of tf.data.NumpyIterator
        return saved.decode("ascii")

    def restore(self, state: Any) -> None:
        """Restore the state of the iterator."""
        self.iterator.restore(state.encode("ascii"))  # type: ignore[attr-defined]  # of tf.data.NumpyIterator


def has_exact_state_dict(iterable: Any) -> bool:
    """Return whether an iterable has ``state_dict`` and ``load_state_dict``, and goes on with the very next element by it."""
    return _has(iterable, "state_dict", "load_state_dict") and not _is_inexact(iterable)


def open_iterable(iterable: Any, *, own_state: bool, initial: tuple[Any, ...] = ()) -> OpenIterable:
    """Return the iterable under way, with its own state if it has one that is exact, and ``own_state`` is True.

    ``initial`` holds the state of an iterable with ``state_dict`` before its first element, if another one was loaded since.
    """
    is_tensorflow = _has(iterable, "as_numpy_iterator")
    if not own_state:
        return Replayed(iterable.as_numpy_iterator() if is_tensorflow else iter(iterable), "own_state=False")
    if is_tensorflow:
        return BySave(iterable.as_numpy_iterator())
    if has_exact_state_dict(iterable):
        return ByStateDict(iterable, initial)
    if reason := _is_inexact(iterable):
        return Replayed(iter(iterable), reason)
    iterator = iter(iterable)
    for get, set_ in (("get_state", "set_state"), ("state_dict", "load_state_dict")):
        if _has(iterator, get, set_):
            return ByIterator(iterator, get, set_)
    return Replayed(iterator, f"a {type(iterable).__name__} has no state of its own")


def _has(value: Any, *methods: str) -> bool:
    return all(callable(getattr(value, name, None)) for name in methods)


def _is_inexact(data: Any) -> str:
    """Return why the state of a data set of Hugging Face would not bring back the very next element; "" if it does."""
    nodes = list(_nodes(data))
    if any(type(node).__name__.startswith(_BUFFERS) for node in nodes):
        return "its state leaves out what is in the buffer of shuffle()"
    form = getattr(getattr(data, "_formatting", None), "format_type", None)
    if form == "arrow" and any(getattr(node, "batched", False) for node in nodes):
        return "its state may leave out a batch of a batched map() in the format of arrow"
    return ""


def _nodes(data: Any) -> Iterator[Any]:
    left, seen = [getattr(data, "_ex_iterable", None)], 0
    while left and seen < _MOST_NODES:
        node = left.pop()
        if node is not None:
            seen += 1
            yield node
            left += [getattr(node, "ex_iterable", None), *(getattr(node, "ex_iterables", None) or ())]


# -- JSON ----------------------------------------------------------------------------------------------------------------


def encoded(state: Any) -> Any:
    """Return a state of another library as JSON that `decoded` takes back; a copy, which later elements do not change.

    Raises:
        StateError: It holds an object that is none of numbers, text, bytes, arrays, lists, tuples and dicts.
    """
    if state is None or isinstance(state, bool | int | float | str):
        return state
    if isinstance(state, list):
        return [encoded(value) for value in state]
    if isinstance(state, Mapping) and all(isinstance(key, str) and not key.startswith("$") for key in state):
        return {key: encoded(value) for key, value in state.items()}
    return state.item() if isinstance(state, np.generic) else _marked(state)


def _marked(state: Any) -> dict[str, Any]:
    """Return a value that JSON does not know as a dict of one entry, whose name says what it is."""
    if isinstance(state, bytes):
        return {"$bytes": base64.b64encode(state).decode("ascii")}
    if isinstance(state, np.ndarray) or _has(state, "numpy"):
        written = io.BytesIO()
        np.save(written, np.asarray(state), allow_pickle=False)
        return {"$array": base64.b64encode(written.getvalue()).decode("ascii")}
    if isinstance(state, tuple):
        return {"$tuple": [encoded(value) for value in state]}
    if isinstance(state, Mapping):
        return {"$dict": [[encoded(key), encoded(value)] for key, value in state.items()]}
    raise StateError(
        f"the state of an iterable holds an object of type {type(state).__name__}, which is not saved as JSON; with "
        "own_state=False the elements before the place are read again instead"
    )


def decoded(state: Any) -> Any:
    """Return the state that `encoded` made JSON of."""
    if isinstance(state, list):
        return [decoded(value) for value in state]
    if not isinstance(state, dict):
        return state
    if len(state) == 1 and (unmark := _UNMARKED.get(next(iter(state)))):
        return unmark(next(iter(state.values())))
    return {key: decoded(value) for key, value in state.items()}


_UNMARKED: Final[Mapping[str, Callable[[Any], Any]]] = {
    "$bytes": base64.b64decode,
    "$array": lambda text: np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False),
    "$tuple": lambda values: tuple(map(decoded, values)),
    "$dict": lambda entries: {decoded(key): decoded(value) for key, value in entries},
}
