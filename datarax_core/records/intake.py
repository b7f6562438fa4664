"""The intake of a pipeline: the fields of its records that it uses, and those that are converted before they are narrowed.

A pipeline whose first stages leave a field out, or convert it, does not narrow the field. Its compiled programs run all stages
on records of the same structure nevertheless: a field that is left out is zeros there, of which nothing is computed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from .dtypes import fits_device
from .nearest import nearest
from .spec import Batch, ElementSpec, name_of_path


@dataclass(frozen=True, slots=True, eq=False)
class StoredField:
    """A field as the source stores it, without values: what `before_narrowing` of a stage is called with.

    A stage may move it, leave it out, or return one of its conversions in its place.
    """

    name: str
    """The dotted name in the source."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    """The dtype in the source."""
    conversion: np.dtype[Any] | None = None
    """The dtype of which it takes the nearest values; None if it is narrowed without change of a value."""
    is_settled: bool = False

    def nearest(self, dtype: Any) -> Self:
        """Return the field converted to the nearest values of ``dtype``. Of several conversions, the first counts."""
        return self if self.is_settled else self._settled(np.dtype(dtype))

    def narrowed(self) -> Self:
        """Return the field narrowed: a value that does not fit is refused, whatever the field is converted to later."""
        return self if self.is_settled else self._settled(None)

    def _settled(self, conversion: np.dtype[Any] | None) -> Self:
        return type(self)(self.name, self.shape, self.dtype, conversion, is_settled=True)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A field that a pipeline leaves out: a part of the structure of a batch, without an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, leaf: Any, shape: tuple[int, ...]) -> Self:
        """Return the mark for a field of records of this shape."""
        return cls(tuple(shape), _device_dtype(leaf.dtype))

    def zeros(self, rows: int) -> jax.Array:
        """Return the field as stages see it."""
        return jnp.zeros((rows, *self.shape), self.dtype)


jax.tree_util.register_pytree_node(
    LeftOut, lambda field: ((), (field.shape, field.dtype)), lambda parts, _: LeftOut(*parts)
)


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to a field before it is narrowed: it is left out (``dtype`` is None), or converted to a dtype."""

    place: int
    """The number of the field among the leaves of the device fields."""
    name: str
    """The dotted name of the field."""
    dtype: np.dtype[Any] | None
    is_wide: bool
    """Whether a device would narrow the field."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of columns that a source places on a device; false if there are none."""

    fields: tuple[Change, ...] = ()
    by_reference: bool = False
    """Whether columns are placed as ``jax.Ref``, for a user's trace, which closes over them."""

    def __bool__(self) -> bool:
        return bool(self.fields)

    def for_trace(self) -> Self:
        """Return the changes of columns that a user's trace reads."""
        return replace(self, by_reference=True)


@dataclass(frozen=True, slots=True)
class Intake:
    """The changes of a pipeline's records before they are narrowed; without changes, false."""

    changes: tuple[Change, ...] = ()

    @classmethod
    def of_uses(cls, spec: ElementSpec, uses: Iterable[StoredField]) -> Self:
        """Return the intake of a pipeline that uses fields as ``uses`` says, of records whose device fields are ``spec``.

        A field that is used twice, in two ways, is narrowed.
        """
        conversions: dict[str, set[np.dtype[Any] | None]] = {}
        for field in uses:
            conversions.setdefault(field.name, set()).add(field.conversion)
        changes = []
        for place, (path, leaf) in enumerate(jax.tree_util.tree_flatten_with_path(spec)[0]):
            name, is_wide = name_of_path(path), _device_dtype(leaf.dtype) != leaf.dtype.newbyteorder("=")
            wanted = conversions.get(name, {None})
            if name not in conversions:
                changes.append(Change(place, name, None, is_wide))
            elif is_wide and len(wanted) == 1 and (dtype := next(iter(wanted))) is not None:
                changes.append(Change(place, name, dtype, is_wide))
        return cls(tuple(changes))

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def wide(self) -> "Changes":
        """The changes of fields that a device would narrow."""
        return Changes(tuple(change for change in self.changes if change.is_wide))

    def taken(self, batch: Batch) -> Batch:
        """Return a batch of NumPy columns, without host fields, after the changes."""
        if not self.changes:
            return batch
        leaves, form = jax.tree.flatten(batch)
        for change in self.changes:
            leaf = leaves[change.place]
            leaves[change.place] = (
                LeftOut.of(leaf, leaf.shape[1:]) if change.dtype is None else nearest(leaf, change.dtype)
            )
        taken: Batch = jax.tree.unflatten(form, leaves)
        return taken

    def spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the element spec, of the device fields, after the changes."""
        leaves, form = jax.tree.flatten(spec)
        for change in self.changes:
            leaf = leaves[change.place]
            leaves[change.place] = (
                LeftOut.of(leaf, leaf.shape) if change.dtype is None else jax.ShapeDtypeStruct(leaf.shape, change.dtype)
            )
        changed: ElementSpec = jax.tree.unflatten(form, leaves)
        return changed


def stored_fields(spec: ElementSpec) -> Any:
    """Return a `StoredField` for each field of an element spec, in its structure."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: StoredField(name_of_path(path), tuple(leaf.shape), leaf.dtype), spec
    )


def completed(batch: Batch, rows: int) -> Batch:
    """Return a batch in compiled code with zeros for the fields that are left out."""
    return jax.tree.map(
        lambda leaf: leaf.zeros(rows) if isinstance(leaf, LeftOut) else leaf,
        batch,
        is_leaf=lambda node: isinstance(node, LeftOut),
    )


def _device_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return jax.dtypes.canonicalize_dtype(dtype.newbyteorder("=")) if fits_device(dtype) else dtype
