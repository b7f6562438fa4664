"""Fields of a batch or element spec by dotted name: find, replace, remove and insert them.

A dot in a name leads into a nested dict: ``pose.left`` is the field ``left`` of the dict ``pose``.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import jax

from datarax_core.errors import StageError, did_you_mean
from datarax_core.records.dtypes import fits_device
from datarax_core.records.spec import Batch, ElementSpec, named_fields

Path: TypeAlias = tuple[Any, ...]
"""Keys of nested dicts, from the outermost in."""

Option: TypeAlias = tuple[int | str, ...]
"""Location of a stage's option, for the ``option`` of a `StageError`."""


def field_of(spec: ElementSpec, name: str, option: str = "field") -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of the field ``name`` of a spec; stages call it when they are built.

    Args:
        spec: Element spec of the records where the stage stands.
        name: Dotted name of the field.
        option: Option of the stage that names the field, for errors.

    Raises:
        StageError: The spec has no such field (the message suggests a close name), or it is a host field, which no stage is
            called with.
    """
    fields = named_fields(spec)
    if name not in fields:
        raise no_such_field(spec, name, (option,))
    struct: jax.ShapeDtypeStruct = fields[name]
    if not fits_device(struct.dtype):
        raise StageError(
            f"field {name!r} is {struct.dtype}, which no device has: it stays on the host, and no stage is called with it",
            (option,),
        )
    return struct


def no_such_field(batch: Batch, name: str, option: Option) -> StageError:
    """Return the error for a batch or spec that has no field ``name``, or two of them."""
    names = list(named_fields(batch))
    if inner := [other for other in names if other.startswith(f"{name}.")]:
        return StageError(f"{name!r} is a dict of fields; name one of them, such as {inner[0]!r}", option)
    if name in names:
        return StageError(f"two fields are called {name!r}, one by a dot in its key; rename it in the source", option)
    hint = did_you_mean(name, names)
    return StageError(f"the records have no field {name!r}{hint} (fields: {', '.join(names) or 'none'})", option)


def change_field(batch: Batch, name: str, change: Callable[[Any], jax.Array]) -> Batch:
    """Return the batch with ``change`` applied to the array of the field ``name``; the other fields are the same arrays.

    Raises:
        StageError: The batch has no such field, or two of them.
    """
    leaves, form = jax.tree_util.tree_flatten_with_path(batch)
    found = [number for number, (path, _) in enumerate(leaves) if _dotted(path) == name]
    arrays = [leaf for _, leaf in leaves]
    if len(found) != 1:
        raise no_such_field(batch, name, ("field",))
    arrays[found[0]] = change(arrays[found[0]])
    return jax.tree.unflatten(form, arrays)


def _dotted(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".") or "record"


def has_field(batch: Batch, name: str) -> bool:
    """Return whether the batch has a field, or a dict of fields, called ``name``."""
    return isinstance(batch, Mapping) and any(True for _ in _paths(batch, name))


def path_of(batch: Batch, name: str, option: Option) -> Path:
    """Return the path of the field, or dict of fields, called ``name``.

    Raises:
        StageError: No field or several fields are called so, or the batch is no dict.
    """
    if not isinstance(batch, Mapping):
        raise StageError(f"the batch is a {type(batch).__name__}, not a dict of named fields", option)
    paths = list(_paths(batch, name))
    if len(paths) != 1:
        raise no_such_field(batch, name, option)
    return paths[0]


def _paths(batch: Mapping[Any, Any], name: str) -> Iterator[Path]:
    for key, value in batch.items():
        if str(key) == name:
            yield (key,)
        elif isinstance(value, Mapping) and name.startswith(f"{key}."):
            yield from ((key, *path) for path in _paths(value, name.removeprefix(f"{key}.")))


def value_at(batch: Batch, path: Path) -> Any:
    """Return the field or dict of fields at a path."""
    for key in path:
        batch = batch[key]
    return batch


def without_path(batch: Batch, path: Path) -> dict[Any, Any]:
    """Return the batch without the field at a path, and without the dicts that its removal leaves empty."""
    key, *inner = path
    rest = without_path(batch[key], tuple(inner)) if inner else {}
    return {name: rest if name == key else value for name, value in batch.items() if name != key or rest}


def with_value_at(batch: dict[Any, Any], path: Path, value: Any) -> dict[Any, Any]:
    """Return the batch with ``value`` at a path, in place of the value that was there; dicts on the way are created."""
    key, *inner = path
    return {**batch, key: with_value_at(batch.get(key, {}), tuple(inner), value) if inner else value}


def with_new_field(batch: Batch, name: str, value: Any, option: Option) -> dict[Any, Any]:
    """Return the batch with ``value`` as a new field called ``name``; dicts that its dots lead into are created.

    Raises:
        StageError: The batch has a field of this name, or one in the place of a dict that the name leads into.
    """
    key, _, inner = name.partition(".")
    if not inner:
        if key in batch:
            raise StageError(f"the name {name!r} is taken by another field; choose one that is free", option)
        return {**batch, key: value}
    held = batch.get(key, {})
    if not isinstance(held, Mapping):
        raise StageError(f"{key!r} is a field, which {inner!r} cannot be put into; choose another name", option)
    return {**batch, key: with_new_field(held, inner, value, option)}
