"""Records read by the host from within a compiled program that does not know which source it reads.

The source is named by a number, an argument of the program: equal pipelines share one program, and none holds a source.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self
from weakref import WeakKeyDictionary, WeakValueDictionary

import jax
import numpy as np

from ._narrow import narrow
from .source import DataSourceModule
from .spec import Batch, batch_struct, device_spec

_numbers: Final[Iterator[int]] = itertools.count()
_sources: Final[WeakValueDictionary[int, DataSourceModule]] = WeakValueDictionary()
_number_of: Final[WeakKeyDictionary[DataSourceModule, int]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class HostRecords:
    """(number of a source, traced indices) -> the batch, for all sources of one element spec."""

    treedef: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    @classmethod
    def of(cls, source: DataSourceModule) -> tuple[Self, np.ndarray]:
        """What reads this source, and its number.

        Raises:
            SpecError: It has fields that compiled code cannot carry.
        """
        source.require_no_beside()
        leaves, treedef = jax.tree.flatten(device_spec(source.element_spec()))
        if source not in _number_of:
            number = _number_of[source] = next(_numbers) % 2**31
            _sources[number] = source
        return cls(treedef, tuple(leaves)), np.asarray(_number_of[source], np.int32)

    def __call__(self, number: Any, indices: jax.Array) -> Batch:
        """Traced: the records at ``indices``."""
        shapes = batch_struct(jax.tree.unflatten(self.treedef, self.leaves), indices.shape[0])
        return jax.pure_callback(_read, shapes, number, indices, vmap_method="sequential")


def _read(number: Any, indices: Any) -> Batch:
    source = _sources[int(number)]
    return narrow(source.fetch_on_host(np.asarray(indices, np.int64)))
