r"""Fields of a batch or element spec by dotted name: find, replace, remove and insert them.

A dot in a name leads into a nested dict: ``pose.left`` is the field ``left`` of the dict ``pose``. A dot inside a name is
written ``\.``; where no dict has such a field, a name that has dots itself is found without the backslashes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import jax

from datarax_core.errors import StageError, did_you_mean
from datarax_core.records.dtypes import dtype_title, fits_device, goes_to_device, is_text
from datarax_core.records.names import dotted_name, plain_name, split_name
from datarax_core.records.spec import Batch, ElementSpec, name_of_path, named_fields

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
    struct = struct_of(spec, name, (option,))
    if not goes_to_device(struct):
        raise StageError(f"field {name!r} is {on_host_only(name, struct)}", (option,))
    return struct


def on_host_only(name: str, struct: jax.ShapeDtypeStruct) -> str:
    """Return what a field is that stays on the host, and how a compiled stage gets at it."""
    kind = f"{dtype_title(struct.dtype)}{list(struct.shape) or ''}"
    reason = "whose records differ in shape" if fits_device(struct.dtype) else "which no device has"
    if fits_device(struct.dtype):
        remedy = f"{{type: pad, field: {name}, length: ...}}"
    elif is_text(struct.dtype) or not struct.shape:
        remedy = f"{{type: tokenize_bytes, field: {name}}}, {{type: lookup, field: {name}, ...}}"
    else:
        remedy = "per_record"
    if not struct.shape and struct.dtype.kind in "SO":
        remedy += ", decode_image of datarax-image"
    more = "" if remedy == "per_record" else " or per_record"
    return (
        f"{kind}, {reason}: it stays on the host, and no compiled stage is called with it; a host stage before brings it to an "
        f"array of one shape, such as {remedy}{more}"
    )


@contextmanager
def telling_of_host_fields(spec: ElementSpec) -> Iterator[None]:
    """Add a note to an error of compiled stages that looked for a field which is on the host only, in records of this spec."""
    try:
        yield
    except Exception as error:
        missing = error if isinstance(error, KeyError) else error.__cause__
        name = missing.args[0] if isinstance(missing, KeyError) and missing.args else None
        struct = named_fields(spec).get(name) if isinstance(name, str) else None
        if isinstance(name, str) and struct is not None and not goes_to_device(struct):
            error.add_note(f"the records have a field {name!r}, but it is {on_host_only(name, struct)}")
        raise


def struct_of(spec: ElementSpec, name: str, option: Option = ("field",)) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of any field ``name`` of a spec, as `leaf_of` does: for stages on the host."""
    struct: jax.ShapeDtypeStruct = leaf_of(spec, name, option)
    return struct


def leaf_of(tree: Any, name: str, option: Option = ("field",)) -> Any:
    """Return any field ``name`` of a spec or a batch, host fields among them; ``option`` is what names it, for errors.

    Raises:
        StageError: There is no such field; the message suggests a close name.
    """
    if has_plain(tree, name):
        return tree[name]
    fields = named_fields(tree)
    found = _spelled(fields, name)
    if found is None:
        raise no_such_field(tree, name, option)
    return fields[found]


def has_plain(tree: Any, name: str) -> bool:
    """Return whether a dict has a field ``name`` itself, a name without dots: the usual case, told without a walk."""
    return type(tree) is dict and name in tree and "." not in name and "\\" not in name and hasattr(tree[name], "dtype")


def _spelled(names: Iterable[str], name: str) -> str | None:
    """Return which of these dotted names a user means by ``name``; None if none of them, or more than one."""
    if name in (names := list(names)):
        return name
    alike = [other for other in names if plain_name(other) == name]
    return alike[0] if len(alike) == 1 else None


def no_such_field(batch: Batch, name: str, option: Option) -> StageError:
    """Return the error for a batch or spec that has no field ``name``, or several of them."""
    if hasattr(batch, "dtype"):
        return _no_dict(batch, name, option)
    names = list(named_fields(batch))
    if len(alike := [other for other in names if plain_name(other) == name]) > 1:
        return StageError(f"several fields can be meant by '{name}': write {' or '.join(alike)}", option)
    if inner := [other for other in names if other.startswith(f"{name}.")]:
        return StageError(f"{name!r} is a dict of fields; name one of them, such as '{inner[0]}'", option)
    spelled = [plain if _spelled(names, plain := plain_name(other)) == other else other for other in names]
    hint = did_you_mean(name, spelled).replace(r"\\", "\\")  # of the repr, which no config file wants
    return StageError(f"the records have no field {name!r}{hint} (fields: {', '.join(names) or 'none'})", option)


def _no_dict(batch: Any, name: str, option: Option) -> StageError:
    """Return the error for a batch or spec that is no dict, where a field ``name`` is asked for."""
    if isinstance(batch, jax.ShapeDtypeStruct):
        kind = f"{dtype_title(batch.dtype)}{list(batch.shape)}"
        found = f"the records are single values, {kind}, not dicts of named fields"
    else:
        found = f"the batch is a {type(batch).__name__}, not a dict of named fields"
    return StageError(f"{found}; make each record a dict, such as {{{name!r}: record}}", option)


def change_field(batch: Batch, name: str, change: Callable[[Any], Any]) -> Batch:
    """Return the batch with ``change`` applied to the array of the field ``name``; the other fields are the same arrays.

    Raises:
        StageError: The batch has no such field, or two of them.
    """
    leaves, form = jax.tree_util.tree_flatten_with_path(batch)
    names = [name_of_path(path) for path, _ in leaves]
    if (found := _spelled(names, name)) is None:
        raise no_such_field(batch, name, ("field",))
    arrays, number = [leaf for _, leaf in leaves], names.index(found)
    arrays[number] = change(arrays[number])
    return jax.tree.unflatten(form, arrays)


def has_field(batch: Batch, name: str) -> bool:
    """Return whether the batch has a field, or a dict of fields, called ``name``."""
    return isinstance(batch, Mapping) and _path(batch, name) is not None


def path_of(batch: Batch, name: str, option: Option) -> Path:
    """Return the path of the field, or dict of fields, called ``name``.

    Raises:
        StageError: No field or several fields are called so, or the batch is no dict.
    """
    if not isinstance(batch, Mapping):
        raise _no_dict(batch, name, option)
    path = _path(batch, name)
    if path is None:
        raise no_such_field(batch, name, option)
    return path


def _path(batch: Mapping[Any, Any], name: str) -> Path | None:
    paths = {dotted_name(path): path for path in _paths(batch)}
    found = _spelled(paths, name)
    return None if found is None else paths[found]


def _paths(batch: Mapping[Any, Any]) -> Iterator[Path]:
    """Yield the path of each field, and of each dict of fields."""
    for key, value in batch.items():
        yield (key,)
        if isinstance(value, Mapping):
            yield from ((key, *path) for path in _paths(value))


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
    return _with_new(batch, split_name(name), value, name, option)


def _with_new(batch: Batch, path: Path, value: Any, name: str, option: Option) -> dict[Any, Any]:
    key, *inner = path
    if not inner:
        if key in batch:
            raise StageError(f"the name {name!r} is taken by another field; choose one that is free", option)
        return {**batch, key: value}
    held = batch.get(key, {})
    if not isinstance(held, Mapping):
        rest = dotted_name(inner)
        raise StageError(f"{key!r} is a field, which {rest!r} cannot be put into; choose another name", option)
    return {**batch, key: _with_new(held, tuple(inner), value, name, option)}
