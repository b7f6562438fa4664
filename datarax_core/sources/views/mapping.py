"""Indices of a view's records mapped to those of its parent: on the host with checks, and in compiled code with tables."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import jax
import numpy as np

from datarax_core.devices.placement import PlacedOnce, free_references, reference_to
from datarax_core.records.spec import Batch
from datarax_core.records.tables import HostTable, TakesRows

TracedMap: TypeAlias = tuple[Callable[[Any, jax.Array], jax.Array], Any]
"""(Hashable function of arguments and traced int32 (k,) indices that returns those of the parent, its arguments)."""


class MapsIndices(Protocol):
    """A view, as far as the mapping of its indices uses it."""

    @property
    def title(self) -> str:
        """The view in messages."""

    @property
    def num_records(self) -> int:
        """Number of its records."""

    def parent_indices(self, indices: np.ndarray) -> np.ndarray:
        """Return the parent's record indices."""


def checked_parent_indices(view: MapsIndices, indices: np.ndarray, parent_records: int) -> np.ndarray:
    """Return int64 (k,): the parent's record indices for record ``indices`` of a view, both checked to be in range.

    Raises:
        IndexError: An index is out of range.
        TypeError: The view's `parent_indices` returned something that is no integer array (k,).
    """
    require_within(view, indices)
    found = np.asarray(view.parent_indices(indices))
    if found.shape != indices.shape or found.dtype.kind not in "iu":
        raise TypeError(
            f"parent_indices() of {view.title} returned {found.dtype} {found.shape} for {len(indices)} indices; return the "
            "parent's record index for each, an integer array (k,)"
        )
    if _has_outside(found, parent_records):
        row = int(np.flatnonzero((found < 0) | (found >= parent_records))[0])
        raise IndexError(
            f"parent_indices() of {view.title} maps its record {indices[row]} to record {found[row]} of its parent, which has "
            f"{parent_records} records"
        )
    return found.astype(np.int64, copy=False)


def require_within(view: MapsIndices, indices: np.ndarray) -> None:
    """Raise ``IndexError`` unless all record ``indices`` of a view are in range."""
    length = view.num_records
    if _has_outside(indices, length):
        wrong = indices[(indices < 0) | (indices >= length)][0]
        raise IndexError(f"record {wrong} is out of range: {view.title} has {length} records")


def _has_outside(indices: np.ndarray, length: int) -> bool:
    """Return whether an index is negative or not less than ``length``; in one pass, as the largest of unsigned numbers."""
    if not indices.size:
        return False
    if indices.dtype.kind == "i" and indices.dtype.isnative:
        indices = indices.view(_UNSIGNED[indices.dtype.itemsize])
        return int(indices.max()) >= length
    return bool(indices.min() < 0 or indices.max() >= length)


_UNSIGNED: Final = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}


@dataclass(frozen=True)
class MappedRecords:
    """Reads the records of a view over a device source in a compiled step: maps the indices, and reads the parent."""

    mapping: Callable[[Any, jax.Array], jax.Array]
    read: Callable[[Any, jax.Array], Batch]

    def __call__(self, arrays: tuple[Any, Any], indices: jax.Array) -> Batch:
        """Return the view's records at ``indices``; ``arrays`` are (arrays of the parent, arguments of the mapping)."""
        return self.read(arrays[0], self.mapping(arrays[1], indices))

    def on_host(self, arrays: tuple[Any, Any]) -> HostTable | None:
        """Return the columns of the parent, of whose rows it reads some: those that `table_rows` of the view gives."""
        return self.read.on_host(arrays[0]) if isinstance(self.read, TakesRows) else None


_SMALL: Final = 1 << 12
"""Bytes of an argument up to which compiled code may hold it as a constant."""


class PlacedTables:
    """The arguments of a traced mapping on devices: placed once for each sharding, and held by reference in a user's trace.

    Twins of a view share them.
    """

    def __init__(self) -> None:
        self._placed = PlacedOnce()
        self._references: list[tuple[Any, Any]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return PlacedTables, ()

    def placed(self, arguments: Any, sharding: jax.sharding.Sharding | None) -> Any:
        """Return the arguments on the devices of ``sharding``; None is the default device."""
        if not any(map(_is_large, jax.tree.leaves(arguments))):
            return arguments
        return self._placed.put(arguments, sharding)  # type: ignore[arg-type]  # None is a key as any other

    def mapped(self, traced_map: TracedMap, indices: jax.Array) -> jax.Array:
        """Return the parent's indices in a trace of a user's own, which holds large tables by reference, not as constants."""
        mapping, arguments = traced_map
        leaves, form = jax.tree.flatten(arguments)
        are_held = [_is_large(leaf) for leaf in leaves]
        held = [self._reference(leaf) if is_held else leaf for leaf, is_held in zip(leaves, are_held, strict=True)]
        if not any(are_held):
            return mapping(arguments, indices)

        def map_indices(held: list[Any], indices: jax.Array) -> jax.Array:
            # the whole array is indexed, and not copied: see `read_rows`
            arrays = [leaf[...] if is_held else leaf for leaf, is_held in zip(held, are_held, strict=True)]
            return mapping(jax.tree.unflatten(form, arrays), indices)

        mapped: jax.Array = jax.jit(map_indices)(held, indices)
        return mapped

    def _reference(self, leaf: Any) -> Any:
        known = next((reference for array, reference in self._references if array is leaf), None)
        if known is None:
            known = reference_to(leaf)
            self._references.append((leaf, known))
            weakref.finalize(self, free_references, (known,)).atexit = False
        return known


def _is_large(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray) and leaf.nbytes > _SMALL
