"""Records read by the host from within a compiled program."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import WeakKeyDictionary, WeakValueDictionary

import jax
import numpy as np

from ._host_errors import noting
from ._narrow import narrow
from .spec import Batch, ElementSpec, batch_struct, device_spec, split_beside

if TYPE_CHECKING:
    from .source import DataSourceModule

_numbers: Final[Iterator[int]] = itertools.count()
_sources: "Final[WeakValueDictionary[int, DataSourceModule]]" = WeakValueDictionary()
_number_of: "Final[WeakKeyDictionary[DataSourceModule, int]]" = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class HostRecords:
    """(number of a source, traced indices) -> the batch, for all sources of one element spec.

    The program does not know which source it reads, which is named by an argument: equal pipelines share one program, and
    none keeps a source alive.
    """

    treedef: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    @classmethod
    def of(cls, source: "DataSourceModule") -> tuple[Self, np.ndarray]:
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


def records_by_callback(source: "DataSourceModule", indices: jax.Array) -> Batch:
    """The records of this very source at traced ``indices``, for a trace that nobody shares.

    Fields that compiled code cannot carry are left out.
    """
    shapes = batch_struct(_carried(source), indices.shape[0])
    return jax.pure_callback(lambda rows: _read(source, rows), shapes, indices, vmap_method="sequential")


def _read(source: "DataSourceModule", indices: Any) -> Batch:
    return noting(_narrowed, source, np.asarray(indices, np.int64))


def _narrowed(source: "DataSourceModule", indices: np.ndarray) -> Batch:
    with source.callback_lock:
        batch, _ = split_beside(source.fetch_on_host(indices))
        return narrow(batch, records=indices, origin=source.title)


def _carried(source: "DataSourceModule") -> ElementSpec:
    return device_spec(split_beside(source.element_spec())[0])
