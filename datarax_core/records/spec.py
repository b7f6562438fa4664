"""Element specs: what one record looks like, derived, compared and held against batches.

An element spec is a pytree of ``jax.ShapeDtypeStruct``, one leaf a field, without the batch dimension. Fields whose dtype
no device has (text, bytes, dates, objects) are *beside* fields: they keep their NumPy dtype in the spec and ride beside the
batch as NumPy arrays.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.errors import SpecError

Batch: TypeAlias = Any
"""A pytree of arrays with one leading dimension, usually a dict of named fields."""

ElementSpec: TypeAlias = Any
"""A pytree of ``jax.ShapeDtypeStruct``, shapes without the batch dimension."""

_KEY_REMEDY = (
    "serve their words, jax.random.key_data(keys), and make keys of them in a stage, jax.random.wrap_key_data(words)"
)


@functools.cache
def fits_device(dtype: np.dtype[Any]) -> bool:
    """Whether JAX has this dtype, as it is or narrowed; text, bytes, dates and objects it has not.

    Raises:
        TypeError: It is the dtype of PRNG keys, which no NumPy array holds.
    """
    if _is_key(dtype):
        raise TypeError(f"a record has a field of PRNG keys ({dtype}); {_KEY_REMEDY}")
    known = dtype == np.bool_ or jnp.issubdtype(dtype, np.number)
    is_span = dtype.kind == "m"  # which NumPy counts among the integers
    return bool(known and not is_span and dtype not in (np.longdouble, np.clongdouble))


def require_no_key(what: str, value: Any) -> None:
    """Refuse an array of PRNG keys by its place, before anybody asks what it looks like in NumPy."""
    if isinstance(value, jax.Array) and _is_key(value.dtype):
        raise TypeError(f"{what} holds PRNG keys ({value.dtype}); {_KEY_REMEDY}")


def spec_of(batch: Batch) -> ElementSpec:
    """The element spec of a batch: each leaf's dtype, and its shape without the leading dimension."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), batch)


def device_spec(spec: ElementSpec) -> ElementSpec:
    """``spec`` as a device holds it: 64-bit dtypes narrowed unless x64 is on; beside fields unchanged."""

    def placed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        if not fits_device(leaf.dtype):
            return leaf
        return jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype))

    return jax.tree.map(placed, spec)


def batch_struct(spec: ElementSpec, size: int) -> Any:
    """``spec`` with a leading dimension of ``size``: the shapes of a batch."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype), spec)


def named_fields(tree: Any) -> dict[str, Any]:
    """The leaves of a batch or spec by dotted name; a tree that is one leaf has the name ``record``."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator=".") or "record": leaf for path, leaf in leaves}


def nested_fields(named: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted name as the nested dicts that the dots speak of."""
    if not any("." in name for name in named):
        return dict(named)
    tree: dict[str, Any] = {}
    for name, value in named.items():
        *outer, last = name.split(".")
        place = tree
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = value
    return tree


def nbytes_of(batch: Batch) -> int:
    """Bytes of all columns, text and bytes among objects counted by their length."""
    return sum(map(_nbytes, jax.tree.leaves(batch)))


def describe(spec: ElementSpec) -> dict[str, str]:
    """Each field as text, ``{"image": "uint8[28, 28]"}``: for people, and for the fingerprint of a state."""
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in named_fields(spec).items()}


def differences(expected: ElementSpec, found: ElementSpec) -> list[str]:
    """One sentence for each field in which two specs differ, in the order of their names; empty if they agree."""
    wanted, given = describe(expected), describe(found)
    sentences = []
    for name in sorted(wanted | given):
        if name not in given:
            sentences.append(f"field {name!r} ({wanted[name]}) is missing")
        elif name not in wanted:
            sentences.append(f"field {name!r} ({given[name]}) is not expected")
        elif wanted[name] != given[name]:
            sentences.append(f"field {name!r} is {given[name]} where {wanted[name]} is expected")
    return sentences


def check_batch(batch: Batch, spec: ElementSpec, size: int, *, origin: str) -> None:
    """Hold a batch of ``size`` records against the spec that its source declared.

    Raises:
        SpecError: Names ``origin`` and every field that is missing, unexpected, or of another shape, dtype or length.
    """
    (leaves, form), (structs, wanted) = jax.tree.flatten(batch), jax.tree.flatten(spec)
    same_form = form == wanted  # type: ignore[operator]  # jaxlib's stubs leave it out
    if same_form and all(_is_batch_of(*pair, size=size) for pair in zip(leaves, structs, strict=True)):
        return
    fields = named_fields(batch)
    wrong = [
        f"field {name!r} is a {type(leaf).__name__}, not an array"
        for name, leaf in fields.items()
        if not _is_array(leaf)
    ]
    if not wrong:
        lengths = {name: leaf.shape[0] if leaf.ndim else "no" for name, leaf in fields.items()}
        wrong = [f"field {name!r} has {n} rows where {size} were asked for" for name, n in lengths.items() if n != size]
        wrong = wrong or differences(spec, spec_of(batch))
    if wrong:
        raise SpecError(f"{origin} gave a batch that its element_spec() does not describe: {'; '.join(wrong)}")


def split_host_fields(batch: Batch) -> tuple[Batch, dict[str, Any]]:
    """A batch, or a spec, as (what a device can hold, the named fields that ride beside it, nested as the batch is).

    Raises:
        SpecError: A beside field has no name of its own to ride under: the batch is not a dict.
    """
    if all(fits_device(leaf.dtype) for leaf in jax.tree.leaves(batch)):
        return batch, {}
    held, host_fields = _parted(batch)
    if nameless := [name for name, leaf in named_fields(held).items() if not fits_device(leaf.dtype)]:
        raise SpecError(
            f"text or object records ({', '.join(sorted(nameless))}) need a field name to ride beside the batch under; "
            "make each record a dict, such as {'text': record}"
        )
    return held, host_fields


def with_host_fields(batch: Batch, host_fields: Mapping[str, Any]) -> Batch:
    """A batch with the fields that `split_host_fields` took from it, each where it was.

    Raises:
        SpecError: The batch is no dict, or has a field of that name by now.
    """
    what = "text or object fields, which ride beside the batch,"
    if not isinstance(batch, Mapping):
        raise SpecError(f"{what} needs batches that are dicts of named fields, not {type(batch).__name__}")
    joined = dict(batch)
    for name, fields in host_fields.items():
        if name in batch and not (isinstance(fields, Mapping) and isinstance(batch[name], Mapping)):
            raise SpecError(f"{what} cannot be added: the batch has a field {name!r} already; choose another name")
        joined[name] = with_host_fields(batch[name], fields) if name in batch else fields
    return joined


def _parted(batch: Batch) -> tuple[Batch, dict[str, Any]]:
    """(the batch without its beside fields, those under a name of a dict); a dict of nothing else is left out of the first."""
    if not isinstance(batch, Mapping):
        return batch, {}
    held: dict[str, Any] = {}
    host_fields: dict[str, Any] = {}
    for name, value in batch.items():
        if hasattr(value, "dtype"):
            (held if fits_device(value.dtype) else host_fields)[name] = value
            continue
        inner, own = _parted(value)
        if own:
            host_fields[name] = own
        if inner or not own:
            held[name] = inner
    return held, host_fields


def _is_batch_of(leaf: Any, struct: jax.ShapeDtypeStruct, *, size: int) -> bool:
    return _is_array(leaf) and leaf.dtype == struct.dtype and leaf.shape == (size, *struct.shape)


def _nbytes(column: Any) -> int:
    if column.dtype != object:
        return int(column.nbytes)
    return sum(getattr(value, "nbytes", 0) or (len(value) if hasattr(value, "__len__") else 0) for value in column.flat)


def _is_key(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jax.dtypes.prng_key))


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray | jnp.ndarray)


def with_fields(batch: Batch, fields: Mapping[str, Any], what: str) -> Batch:
    """The batch with more fields, none of which it may have already."""
    if not isinstance(batch, Mapping):
        raise SpecError(f"{what} needs batches that are dicts of named fields, not {type(batch).__name__}")
    if taken := sorted(fields.keys() & batch.keys()):
        raise SpecError(f"{what} cannot be added: the batch has a field {taken[0]!r} already; choose another name")
    return {**batch, **fields}


T = TypeVar("T")


def host_fields_after(stages: Sequence[Any], fields: Mapping[str, T]) -> dict[str, T]:
    """What rides beside a batch after these stages: arrays, or their specs."""
    passed = dict(fields)
    for stage in stages:
        if (host_fields := getattr(stage, "host_fields", None)) is not None:
            passed = host_fields(passed)
    return passed
