"""Element specs: the shape and dtype of each field of one record; derived, compared, and checked against batches.

An element spec is a pytree of ``jax.ShapeDtypeStruct``, one leaf a field, without the batch dimension. The shape has None for
each axis that varies from record to record: such a field is a `Ragged` column in the batch. Ragged fields, and those whose
dtype no device has (text, bytes, dates, objects) are *host fields*: they keep their NumPy dtype in the spec, and are NumPy
arrays, or ragged columns, in the batch.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.errors import SpecError

from .dtypes import are_one_kind, common_text, dtype_title, goes_to_device, is_text
from .names import dotted_name, split_name
from .ragged import Ragged

T = TypeVar("T")

_TEXT_FIELD: Final = r"(text|bytes|object|[<>|=][US]\d*)(\[.*)"
_MOST_SHOWN: Final = 20
"""Fields that the message about a batch names."""

_OF_VARYING_LENGTH: Final = (
    "; values of varying length are Ragged.from_list(values), with None for the axis in element_spec()"
)

_TEXT_TITLES: Final = {"U": "text", "S": "bytes"}

Batch: TypeAlias = Any
"""A pytree of arrays, or ragged columns, with one leading dimension, usually a dict of named fields."""

ElementSpec: TypeAlias = Any
"""A pytree of ``jax.ShapeDtypeStruct``, shapes without the batch dimension; None for an axis that varies."""


# -- specs and batches ------------------------------------------------------------------------------------------------------


def spec_of(batch: Batch) -> ElementSpec:
    """Return the element spec of a batch: the dtype of each leaf, and its shape without the leading dimension."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), batch)


def device_spec(spec: ElementSpec) -> ElementSpec:
    """Return ``spec`` as a device holds it; host fields unchanged.

    64-bit dtypes are narrowed unless x64 is on, and bytes are in the order of this machine.
    """

    def placed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        if not goes_to_device(leaf):
            return leaf
        return jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype.newbyteorder("=")))

    return jax.tree.map(placed, spec)


def batch_struct(spec: ElementSpec, size: int) -> Any:
    """Return the shapes and dtypes of a batch of ``size`` records: ``spec``, of device fields, with a leading dimension."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype), spec)


def check_batch(batch: Batch, spec: ElementSpec, size: int, *, origin: str, may_be_smaller: bool = False) -> None:
    """Raise unless a batch has ``size`` records that the element spec of its source describes.

    With ``may_be_smaller``, axes of its records may be shorter than the spec says, of all records alike.

    Raises:
        SpecError: Names ``origin`` and every field that is missing, unexpected, or of another shape, dtype or length.
    """
    (leaves, form), (structs, spec_form) = jax.tree.flatten(batch), jax.tree.flatten(spec)
    same_form = form == spec_form  # type: ignore[operator]  # jaxlib's stubs leave it out
    pairs = zip(leaves, structs, strict=True) if same_form else ()
    if same_form and all(_is_batch_of(*pair, size=size, may_be_smaller=may_be_smaller) for pair in pairs):
        return
    if may_be_smaller and same_form:
        spec = jax.tree.unflatten(spec_form, map(_with_sizes_of, leaves, structs))
    wrong = _no_arrays(batch, spec)
    if not wrong:
        fields = named_fields(batch)
        lengths = {name: leaf.shape[0] if leaf.ndim else "no" for name, leaf in fields.items()}
        wrong = [f"field {name!r} has {n} rows where {size} were asked for" for name, n in lengths.items() if n != size]
        wrong = wrong or differences(spec, spec_of(batch)) or list(_without_text(fields, named_fields(spec)))
    if wrong:
        more = f"; and {len(wrong) - _MOST_SHOWN} more" if len(wrong) > _MOST_SHOWN else ""
        if same_form and any(map(_differ_in_length, leaves, structs)):
            more += _OF_VARYING_LENGTH
        raise SpecError(
            f"{origin} gave a batch that its element_spec() does not describe: {'; '.join(wrong[:_MOST_SHOWN])}{more}"
        )


def _with_sizes_of(leaf: Any, struct: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Return a struct with the sizes of a column's axes, if none is greater than the struct says."""
    shape = getattr(leaf, "shape", ())[1:]
    return jax.ShapeDtypeStruct(shape, struct.dtype) if _is_within(shape, struct.shape) else struct


def _is_within(shape: tuple[int | None, ...], greatest: tuple[int | None, ...]) -> bool:
    return len(shape) == len(greatest) and all(
        n == size or (n is not None and size is not None and n < size) for n, size in zip(shape, greatest, strict=True)
    )


def _differ_in_length(leaf: Any, struct: jax.ShapeDtypeStruct) -> bool:
    """Return whether a column has the dtype and the number of axes of its spec, but other sizes."""
    if not _is_array(leaf) or leaf.dtype != struct.dtype or leaf.ndim != 1 + len(struct.shape):
        return False
    return tuple(leaf.shape[1:]) != tuple(struct.shape)


def _no_arrays(batch: Batch, spec: ElementSpec) -> list[str]:
    """Return a sentence for each field that is no array; a list in the place of a field is one field."""
    form: Any = jax.tree.structure(spec)
    try:
        fields = dict(zip(named_fields(spec), form.flatten_up_to(batch), strict=True))
    except (ValueError, TypeError):  # fields are missing, or others
        fields = named_fields(batch)
    return [
        f"field {name!r} is a {type(leaf).__name__}, not an array"
        for name, leaf in fields.items()
        if not _is_array(leaf)
    ]


def _is_batch_of(leaf: Any, struct: jax.ShapeDtypeStruct, *, size: int, may_be_smaller: bool) -> bool:
    if not _is_array(leaf):
        return False
    if leaf.shape != (size, *struct.shape) and not (
        may_be_smaller and leaf.shape[:1] == (size,) and _is_within(leaf.shape[1:], struct.shape)
    ):
        return False
    if leaf.dtype == struct.dtype or _differ_in_order(leaf.dtype, struct.dtype):
        return True
    return are_one_kind(leaf.dtype, struct.dtype) and _odd_one(leaf, struct) is None


def _odd_one(leaf: Any, struct: jax.ShapeDtypeStruct) -> Any:
    """Return a list of the first object that is not text, or bytes, where the spec says so; None if there is none."""
    if leaf.dtype != object or not is_text(struct.dtype):
        return None
    kind = bytes if struct.dtype.kind == "S" else str
    return next(([value] for value in _values(leaf).flat if not isinstance(value, kind)), None)


def _without_text(fields: Mapping[str, Any], structs: Mapping[str, jax.ShapeDtypeStruct]) -> Iterator[str]:
    for name, leaf in fields.items():
        if odd := _odd_one(leaf, structs[name]):
            yield f"field {name!r} holds {odd[0]!r:.40} where {dtype_title(structs[name].dtype)} is expected"


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray | jnp.ndarray | Ragged)


def _values(column: Any) -> np.ndarray:
    return column.compact().values if isinstance(column, Ragged) else column


def nbytes_of(batch: Batch) -> int:
    """Return the number of bytes of all columns; texts and bytes that are objects count by their length."""
    return sum(map(_nbytes, jax.tree.leaves(batch)))


def _nbytes(column: Any) -> int:
    if column.dtype != object:
        return int(column.nbytes)
    values = _values(column).flat
    return sum(getattr(value, "nbytes", 0) or (len(value) if hasattr(value, "__len__") else 0) for value in values)


# -- fields by name ---------------------------------------------------------------------------------------------------------


def named_fields(tree: Any) -> dict[str, Any]:
    r"""Return the leaves of a batch or spec by dotted name; a tree that is a single leaf has the name ``record``.

    A dot in a key is written ``\.``, see `datarax_core.records.names`.
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {name_of_path(path): leaf for path, leaf in leaves}


def name_of_path(path: Any) -> str:
    """Return the dotted name of a leaf from its path in JAX's trees."""
    return dotted_name(jax.tree_util.keystr((entry,), simple=True) for entry in path) or "record"


def nested_fields(named: Mapping[str, Any]) -> dict[str, Any]:
    r"""Turn ``{'a.b': x}`` into ``{'a': {'b': x}}``, and ``{r'a\.b': x}`` into ``{'a.b': x}``."""
    tree: dict[str, Any] = {}
    for name, value in named.items():
        *outer, last = split_name(name)
        inner = tree
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return tree


def describe(spec: ElementSpec) -> dict[str, str]:
    """Return each field as text, ``{"image": "uint8[28, 28]"}``: for people, and for the fingerprint of a state.

    Text and bytes have no width here: it is that of the longest value, and a field may have any.
    """
    return {name: f"{dtype_title(leaf.dtype)}{list(leaf.shape)}" for name, leaf in named_fields(spec).items()}


def describe_one_kind(one: Any, other: Any) -> bool:
    """Return whether two results of `describe` are of one kind, also if an earlier version made one of them.

    It named widths of text, and the arrays of a field that is a ragged column now were objects.
    """
    if not isinstance(one, Mapping) or not isinstance(other, Mapping) or one.keys() != other.keys():
        return False
    return all(_is_same_field(one[name], other[name]) for name in one)


def _is_same_field(one: Any, other: Any) -> bool:
    return one == other or _is_same_text(one, other) or _is_ragged_for_objects(one, other)


def _is_ragged_for_objects(one: Any, other: Any) -> bool:
    objects, column = (one, other) if one == "object[]" else (other, one)
    return objects == "object[]" and isinstance(column, str) and "None" in column.partition("[")[2]


def _is_same_text(one: Any, other: Any) -> bool:
    matches = [re.fullmatch(_TEXT_FIELD, str(field)) for field in (one, other)]
    if None in matches:
        return False
    kinds = {_TEXT_TITLES.get(match[1][1:2], match[1]) for match in matches if match}
    shapes = {match[2] for match in matches if match}
    return len(shapes) == 1 and (len(kinds) == 1 or (len(kinds) == 2 and "object" in kinds))


def differences(expected: ElementSpec, found: ElementSpec) -> list[str]:
    """Return a sentence for each field in which two specs differ, sorted by field name; an empty list if they agree."""
    wanted, given = describe(expected), describe(found)
    structs, found_structs = named_fields(expected), named_fields(found)
    sentences = []
    for name in sorted(wanted | given):
        if name not in given:
            sentences.append(f"field {name!r} ({wanted[name]}) is missing")
        elif name not in wanted:
            sentences.append(f"field {name!r} ({given[name]}) is not expected")
        elif wanted[name] != given[name] and not _are_one_kind(structs[name], found_structs[name]):
            sentences.append(f"field {name!r} is {given[name]} where {wanted[name]} is expected")
    return sentences


def _are_one_kind(one: Any, other: Any) -> bool:
    return one.shape == other.shape and (
        are_one_kind(one.dtype, other.dtype) or _differ_in_order(one.dtype, other.dtype)
    )


def _differ_in_order(one: Any, other: Any) -> bool:
    """Return whether two dtypes differ in the order of bytes only, which NumPy changes when it unpickles mapped arrays."""
    if not (isinstance(one, np.dtype) and isinstance(other, np.dtype)) or (one.isnative and other.isnative):
        return False
    return one.newbyteorder("=") == other.newbyteorder("=")


def has_shape(found: Sequence[int | None], expected: Sequence[int | None]) -> bool:
    """Return whether the shape of a record, or of several, is the expected one, where None takes an axis of any length."""
    same_axes = len(found) == len(expected)
    return same_axes and all(size is None or n == size for n, size in zip(found, expected, strict=True))


def varying_spec(one: ElementSpec, other: ElementSpec) -> ElementSpec:
    """Return the element spec ``one`` with None for each axis in which ``other``, that of another record, differs.

    Dtypes are those of ``one``. Fields that differ in their number of axes stay as they are in it; so does a spec with other
    fields. A list without items has the dtype and the further axes of the other one.
    """
    if jax.tree.structure(one) != jax.tree.structure(other):  # type: ignore[operator]  # jaxlib's stubs leave it out
        return one
    return jax.tree.map(_varying, one, other)


def _varying(one: jax.ShapeDtypeStruct, other: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    for empty, full in ((one, other), (other, one)):
        if empty.shape == (0,) and full.shape and 0 not in full.shape:
            return jax.ShapeDtypeStruct((None, *full.shape[1:]), full.dtype)
    if len(one.shape) != len(other.shape):
        return one
    shape = [size if size == n else None for size, n in zip(one.shape, other.shape, strict=True)]
    return jax.ShapeDtypeStruct(tuple(shape), one.dtype)


def common_spec(specs: Sequence[ElementSpec]) -> ElementSpec:
    """Return the spec of records of several specs without `differences`: text and bytes as wide as the widest, or objects."""
    return jax.tree.map(
        lambda *leaves: jax.ShapeDtypeStruct(leaves[0].shape, common_text([leaf.dtype for leaf in leaves])), *specs
    )


# -- host fields ------------------------------------------------------------------------------------------------------------


def split_host_fields(batch: Batch) -> tuple[Batch, dict[str, Any]]:
    """Split a batch, or an element spec, into (fields that devices can hold, host fields).

    Both parts are nested as the batch is. A dict of which all fields are host fields is left out of the first part.

    Raises:
        SpecError: A host field has no name: the batch is not a dict, or a tuple or list in it holds the field.
    """
    if all(map(goes_to_device, jax.tree.leaves(batch))):
        return batch, {}
    device_fields, host_fields = _split(batch)
    if nameless := [name for name, leaf in named_fields(device_fields).items() if not goes_to_device(leaf)]:
        sort = "ragged, text" if any(None in leaf.shape for leaf in jax.tree.leaves(device_fields)) else "text"
        raise SpecError(
            f"{sort} or object records ({', '.join(sorted(nameless))}) need a field name, since they stay on the host as host "
            "fields of the batch; make each record a dict, such as {'text': record}"
        )
    return device_fields, host_fields


def _split(batch: Batch) -> tuple[Batch, dict[str, Any]]:
    """Split off the host fields that dicts name; other host fields, such as those in tuples, stay in the first part."""
    if not isinstance(batch, Mapping):
        return batch, {}
    device_fields: dict[str, Any] = {}
    host_fields: dict[str, Any] = {}
    for name, value in batch.items():
        if hasattr(value, "dtype"):
            (device_fields if goes_to_device(value) else host_fields)[name] = value
            continue
        inner, inner_host_fields = _split(value)
        if inner_host_fields:
            host_fields[name] = inner_host_fields
        if inner or not inner_host_fields:
            device_fields[name] = inner
    return device_fields, host_fields


def with_host_fields(batch: Batch, host_fields: Mapping[str, Any]) -> Batch:
    """Return a batch with the host fields that `split_host_fields` split from it, each where it was.

    Raises:
        SpecError: The batch is no dict, or a stage gave it a field of such a name.
    """
    title = "host fields (text, bytes, objects)"
    _require_dict(batch, f"adding {title}")
    joined = dict(batch)
    for name, fields in host_fields.items():
        if name in batch and not (isinstance(fields, Mapping) and isinstance(batch[name], Mapping)):
            raise _name_taken(title, name)
        joined[name] = with_host_fields(batch[name], fields) if name in batch else fields
    return joined


def with_fields(batch: Batch, fields: Mapping[str, Any], title: str) -> Batch:
    """Return a batch with more fields.

    Args:
        batch: A dict of fields.
        fields: The fields to add, by name.
        title: The name of the new fields in errors.

    Raises:
        SpecError: The batch is no dict, or has a field of such a name.
    """
    _require_dict(batch, title)
    if taken := sorted(fields.keys() & batch.keys()):
        raise _name_taken(title, taken[0])
    return {**batch, **fields}


def _require_dict(batch: Batch, title: str) -> None:
    if not isinstance(batch, Mapping):
        raise SpecError(f"{title} needs batches that are dicts of named fields, not {type(batch).__name__}")


def _name_taken(title: str, name: str) -> SpecError:
    return SpecError(f"{title} cannot be added: the batch has a field {name!r} already; choose another name")


def host_fields_after(stages: Sequence[Any], fields: Mapping[str, T]) -> dict[str, T]:
    """Return the host fields of a batch, as arrays or as specs, after these stages.

    Stages are not called with host fields. A stage that renames or selects fields has a method ``host_fields`` that does
    the same to them; every other stage leaves them as they are.
    """
    passed = dict(fields)
    for stage in stages:
        method = getattr(stage, "host_fields", None) or _method_of_old_name(stage)
        if method is not None:
            passed = method(passed)
    return passed


def _method_of_old_name(stage: Any) -> Callable[[Any], dict[str, Any]] | None:
    """Return the stage's method ``beside``, the name of ``host_fields`` in version 0.1.0, if it has one."""
    method: Callable[[Any], dict[str, Any]] | None = getattr(stage, "beside", None)
    if method is not None:
        warnings.warn(
            f"{type(stage).__name__} has a method beside(), which is called host_fields() now; rename it",
            DeprecationWarning,
            stacklevel=3,
        )
    return method
