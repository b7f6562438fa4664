"""Host callbacks of compiled code that read records, and the exceptions raised in them, which JAX would replace."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Protocol, Self, TypeVar, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

import jax
import numpy as np

from datarax_core.records.intake import Intake, completed
from datarax_core.records.narrowing import narrow
from datarax_core.records.spec import Batch, ElementSpec, batch_struct, device_spec, split_host_fields

T = TypeVar("T")

_WHOLE: Final = Intake()
"""The intake of all fields as they are."""


def keeping_error(call: Callable[..., T], *arguments: Any) -> T:
    """Return ``call(*arguments)`` in a callback; keep its error for `original_errors`, and raise it."""
    try:
        return call(*arguments)
    except BaseException as error:  # also KeyboardInterrupt and SystemExit, which end the program that waits
        for kept in tuple(_kept.values()):
            kept.append(error)
        raise


@contextmanager
def original_errors() -> Iterator[None]:
    """Raise the error of a source that compiled code reads through the host as the source raised it.

    For code of your own that runs programs under ``nnx.jit``: ``with original_errors(): train(pipeline)``. The original has
    its class, traceback, cause and notes. JAX would raise a ``ValueError`` or a ``JaxRuntimeError``, with the original as text.
    A program's error comes when its results are waited for; wait inside of the block.
    """
    with _keeping() as kept:
        try:
            yield
        except Exception as failure:
            if (original := _original_of(failure, kept)) is None:
                raise
            raise original from original.__cause__


def raising_original(program: Callable[..., T], *arguments: Any) -> T:
    """Run a compiled program, wait for its results and return them; raise as `original_errors` does."""
    with _keeping() as kept:
        try:
            return jax.block_until_ready(program(*arguments))  # type: ignore[no-any-return]  # the results of the program
        except Exception as failure:
            if (original := _original_of(failure, kept)) is None:
                raise
        raise original  # outside of the handler, which would replace the context of the original


@contextmanager
def _keeping() -> Iterator[Iterable[BaseException]]:
    kept: deque[BaseException] = deque(maxlen=_ERRORS_KEPT)
    _kept[id(kept)] = kept
    try:
        yield kept
    finally:
        del _kept[id(kept)]


def _original_of(failure: Exception, kept: Iterable[BaseException]) -> BaseException | None:
    return next((error for error in kept if _is_caused_by(failure, error)), None)


def _is_caused_by(failure: Exception, error: BaseException) -> bool:
    """Return whether a program failed by this error, and not by one that a program of another thread kept."""
    return failure is not error and type(error).__name__ in str(failure) and str(error) in str(failure)


_ERRORS_KEPT: Final = 64

_kept: dict[int, deque[BaseException]] = {}
"""The errors of callbacks, for each block that waits. JAX runs callbacks on its own threads, so none knows its program."""


class HostReader(Protocol):
    """A source whose records compiled code reads through the host."""

    @property
    def title(self) -> str:
        """The name of the source in errors."""

    @property
    def num_records(self) -> int:
        """The number of record indices."""

    @property
    def original_number(self) -> int:
        """The number of the source that callbacks read from, if this is a copy in a trace; else of this source."""

    @property
    def callback_lock(self) -> Lock:
        """The lock that is held while the source reads for compiled code."""

    def element_spec(self) -> ElementSpec:
        """Return the element spec of a record."""

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """Return the records at concrete ``indices``, without compiled code."""


class KeyedReader(HostReader, Protocol):
    """A reader that draws random numbers from a key."""

    def with_key_data(self, key_data: Any) -> HostReader:
        """Return the reader of the same records that draws from the key uint32 (2,)."""


_numbers: Final[Iterator[int]] = itertools.count()

_sources: Final[WeakValueDictionary[int, HostReader]] = WeakValueDictionary()
"""By number, every source of this process that a compiled program reads; a source that is dropped leaves the table."""

_number_of: Final[WeakKeyDictionary[HostReader, int]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class HostRecords:
    """A function for compiled code from (number of a source, traced indices) to a batch.

    All sources of one element spec share it: the source is an argument of the program, by its number, so equal pipelines
    share one program, and the program keeps no source alive.
    """

    treedef: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    intake: Intake

    @classmethod
    def of(cls, source: HostReader, intake: Intake = _WHOLE) -> tuple[Self, np.ndarray]:
        """Return the function for a source, without its host fields, and the number of the source, int32."""
        leaves, treedef = jax.tree.flatten(_device_fields(source, intake))
        return cls(treedef, tuple(leaves), intake), np.asarray(number_of(source), np.int32)

    def __call__(self, number: Any, indices: jax.Array) -> Batch:
        """Return the records at traced ``indices``."""
        shapes = batch_struct(jax.tree.unflatten(self.treedef, self.leaves), indices.shape[0])
        batch = jax.pure_callback(
            lambda number, rows: _read(int(number), rows, self.intake),
            shapes,
            number,
            indices,
            vmap_method="sequential",
        )
        return completed(batch, indices.shape[0])


def records_by_callback(source: HostReader, indices: jax.Array, intake: Intake = _WHOLE, key_data: Any = None) -> Batch:
    """Return the records of a source at traced ``indices``, without host fields, for a user's trace.

    The program reads from the original of the source by number, and does not keep it: whoever runs the program has the source.
    ``key_data`` is the traced key that a `KeyedReader` draws from: a variable of the pipeline, which may have another value in
    the next call of the program.
    """
    number = source.original_number
    shapes = batch_struct(_device_fields(source, intake), indices.shape[0])
    keys = () if key_data is None else (key_data,)
    batch = jax.pure_callback(
        lambda rows, *key: _read(number, rows, intake, *key), shapes, indices, *keys, vmap_method="sequential"
    )
    return completed(batch, indices.shape[0])


def number_of(source: Any) -> int:
    """Return the number by which callbacks find a source, a `HostReader`, as long as someone holds it."""
    if source not in _number_of:
        number = _number_of[source] = next(_numbers) % 2**31
        _sources[number] = source
    return _number_of[source]


def _read(number: int, indices: Any, intake: Intake, key_data: Any = None) -> Batch:
    return keeping_error(_read_from, number, np.asarray(indices, np.int64), intake, key_data)


def _read_from(number: int, indices: np.ndarray, intake: Intake, key_data: Any) -> Batch:
    source = _sources.get(number)
    if source is None:
        raise RuntimeError(
            "the source that this program reads is gone: keep the source or pipeline that the function was called with"
        )
    if key_data is not None:
        source = cast(KeyedReader, source).with_key_data(np.asarray(key_data))
    return _narrowed(source, indices, intake)


def _narrowed(source: HostReader, indices: np.ndarray, intake: Intake) -> Batch:
    records = indices
    if indices.ndim > 1:  # record index and epoch, of a source that varies by epoch: their sum may exceed 32 bits
        records, epochs = indices.T
        indices = records + source.num_records * epochs
    with source.callback_lock:
        batch, _ = split_host_fields(source.fetch_on_host(indices))
        return narrow(intake.taken(batch), records=records, origin=source.title)


def _device_fields(source: HostReader, intake: Intake) -> ElementSpec:
    """Return the element spec of the fields that compiled code can carry, as a device holds them."""
    return device_spec(intake.spec(split_host_fields(source.element_spec())[0]))
