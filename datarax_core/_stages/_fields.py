"""Fields of a batch by dotted name: found, changed, taken out and put elsewhere."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import jax

from datarax_core.errors import StageError
from datarax_core.spec import Batch, no_such_field

Path: TypeAlias = tuple[Any, ...]
"""Keys of dicts, from the outside in."""

Option: TypeAlias = tuple[int | str, ...]


def changed(batch: Batch, name: str, change: Callable[[Any], jax.Array]) -> Batch:
    """The batch with another array as the field ``name``.

    Raises:
        StageError: It has no such field.
    """
    leaves, form = jax.tree_util.tree_flatten_with_path(batch)
    found = [number for number, (path, _) in enumerate(leaves) if _dotted(path) == name]
    arrays = [leaf for _, leaf in leaves]
    if len(found) != 1:
        raise no_such_field(batch, name, ("field",))
    arrays[found[0]] = change(arrays[found[0]])
    return jax.tree.unflatten(form, arrays)


def has(batch: Batch, name: str) -> bool:
    """Whether there is a field, or a dict of fields, that is called ``name``."""
    return isinstance(batch, Mapping) and any(True for _ in _paths(batch, name))


def path_of(batch: Batch, name: str, option: Option) -> Path:
    """Where the field ``name`` is in nested dicts, or the dict of fields that is called so.

    Raises:
        StageError: It is nowhere, or at two places, or the batch is no dict.
    """
    if not isinstance(batch, Mapping):
        raise StageError(f"the batch is a {type(batch).__name__}, not a dict of named fields", option)
    paths = list(_paths(batch, name))
    if len(paths) != 1:
        raise no_such_field(batch, name, option)
    return paths[0]


def at(batch: Batch, path: Path) -> Any:
    """What is there."""
    for key in path:
        batch = batch[key]
    return batch


def without(batch: Batch, path: Path) -> dict[Any, Any]:
    """The batch without what is there, and without the dicts that this leaves empty."""
    key, *inner = path
    rest = without(batch[key], tuple(inner)) if inner else {}
    return {name: rest if name == key else value for name, value in batch.items() if name != key or rest}


def put(batch: Batch, name: str, value: Any, option: Option) -> dict[Any, Any]:
    """The batch with a value under a name, whose dots lead into nested dicts.

    Raises:
        StageError: The name is taken.
    """
    key, _, inner = name.partition(".")
    if not inner:
        if key in batch:
            raise StageError(f"the name {name!r} is taken by another field; choose one that is free", option)
        return {**batch, key: value}
    held = batch.get(key, {})
    if not isinstance(held, Mapping):
        raise StageError(f"{key!r} is a field, which {inner!r} cannot be put into; choose another name", option)
    return {**batch, key: put(held, inner, value, option)}


def _paths(batch: Mapping[Any, Any], name: str) -> Iterator[Path]:
    for key, value in batch.items():
        if str(key) == name:
            yield (key,)
        elif isinstance(value, Mapping) and name.startswith(f"{key}."):
            yield from ((key, *path) for path in _paths(value, name.removeprefix(f"{key}.")))


def _dotted(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".") or "record"
