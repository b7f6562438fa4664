"""Records read by the host from within a compiled program, and errors that come through one as they were raised."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Protocol, Self, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import jax
import numpy as np

from datarax_core.records.narrowing import narrow
from datarax_core.records.spec import Batch, ElementSpec, batch_struct, device_spec, split_host_fields

T = TypeVar("T")


def noting(call: Callable[..., T], *arguments: Any) -> T:
    """``call(*arguments)``, for the inside of a callback: an error is noted for every `raising_noted` under way."""
    try:
        return call(*arguments)
    except Exception as error:
        for noted in tuple(_under_way.values()):
            noted.append(error)
        raise


def raising_noted(program: Callable[..., T], *arguments: Any) -> T:
    """The results of a compiled program, waited for. What a callback of it raised is raised as it was.

    With its class, traceback, cause and notes, that is; JAX makes a ``ValueError`` or a ``JaxRuntimeError`` of it.
    """
    noted: list[Exception] = []
    _under_way[id(noted)] = noted
    try:
        return jax.block_until_ready(program(*arguments))  # type: ignore[no-any-return]  # what it was given
    except Exception as failure:
        original = next((error for error in noted if _is_told_by(failure, error)), None)
        if original is None:
            raise
    finally:
        del _under_way[id(noted)]
    raise original  # here, and not in the handler, which would replace the context that it was raised in


def _is_told_by(failure: Exception, error: Exception) -> bool:
    """Whether a program failed for this error: programs of other threads note theirs as well."""
    return failure is not error and type(error).__name__ in str(failure) and str(error) in str(failure)


_under_way: dict[int, list[Exception]] = {}
"""The errors noted for each program under way. JAX runs callbacks on threads of its own, so that none knows its program."""


class HostReader(Protocol):
    """What compiled code reads records of by way of the host: a source."""

    @property
    def title(self) -> str:
        """What errors call it."""

    @property
    def callback_lock(self) -> Lock:
        """Held while it reads for compiled code."""

    def element_spec(self) -> ElementSpec:
        """What one record looks like."""

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """The records at concrete ``indices``, without compiled code."""


_numbers: Final[Iterator[int]] = itertools.count()

_sources: Final[WeakValueDictionary[int, HostReader]] = WeakValueDictionary()

_number_of: Final[WeakKeyDictionary[HostReader, int]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class HostRecords:
    """(number of a source, traced indices) -> the batch, for all sources of one element spec.

    The program does not know which source it reads, which is named by an argument: equal pipelines share one program, and
    none keeps a source alive.
    """

    treedef: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    @classmethod
    def of(cls, source: HostReader) -> tuple[Self, np.ndarray]:
        """What reads this source, fields that compiled code cannot carry left out, and its number."""
        leaves, treedef = jax.tree.flatten(_carried(source))
        if source not in _number_of:
            number = _number_of[source] = next(_numbers) % 2**31
            _sources[number] = source
        return cls(treedef, tuple(leaves)), np.asarray(_number_of[source], np.int32)

    def __call__(self, number: Any, indices: jax.Array) -> Batch:
        """Traced: the records at ``indices``."""
        shapes = batch_struct(jax.tree.unflatten(self.treedef, self.leaves), indices.shape[0])
        return jax.pure_callback(
            lambda number, rows: _read(_sources[int(number)], rows), shapes, number, indices, vmap_method="sequential"
        )


def records_by_callback(source: HostReader, indices: jax.Array) -> Batch:
    """The records of this very source at traced ``indices``, for a trace that nobody shares.

    Fields that compiled code cannot carry are left out.
    """
    shapes = batch_struct(_carried(source), indices.shape[0])
    return jax.pure_callback(lambda rows: _read(source, rows), shapes, indices, vmap_method="sequential")


def _read(source: HostReader, indices: Any) -> Batch:
    return noting(_narrowed, source, np.asarray(indices, np.int64))


def _narrowed(source: HostReader, indices: np.ndarray) -> Batch:
    with source.callback_lock:
        batch, _ = split_host_fields(source.fetch_on_host(indices))
        return narrow(batch, records=indices, origin=source.title)


def _carried(source: HostReader) -> ElementSpec:
    return device_spec(split_host_fields(source.element_spec())[0])
