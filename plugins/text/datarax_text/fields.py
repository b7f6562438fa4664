"""Fields of text and of tokens in batches and specs: found by dotted name, checked, and put in place."""

from typing import Annotated, Any

import jax
from pydantic import StringConstraints

from datarax_core import StageError
from datarax_core.records import DOTTED_PATTERN, Batch, ElementSpec, describe
from datarax_core.stages import path_of, struct_of, value_at, with_new_field, with_value_at

NewName = Annotated[str, StringConstraints(pattern=DOTTED_PATTERN)]
"""The dotted name of a new field: text on both sides of each dot that leads into a dict."""


def text_struct(spec: ElementSpec, name: str, option: str = "field") -> jax.ShapeDtypeStruct:
    """Return the leaf of a field of text in a spec; ``option`` names it, for errors.

    Raises:
        StageError: There is no such field, or its records are not one text each.
    """
    struct = struct_of(spec, name, (option,))
    if struct.dtype.kind not in "UTSO" or struct.shape != ():
        raise StageError(f"field {name!r} is {title_of(struct)}, not one text a record", (option,))
    return struct


def token_struct(spec: ElementSpec, name: str) -> jax.ShapeDtypeStruct:
    """Return the leaf of a field of tokens in a spec: integers on one axis, ragged or not.

    Raises:
        StageError: There is no such field, or it is something else.
    """
    struct = struct_of(spec, name)
    if struct.dtype.kind not in "iu" or len(struct.shape) != 1:
        raise StageError(
            f"field {name!r} is {title_of(struct)}, not integers on one axis, which tokens are", ("field",)
        )
    return struct


def title_of(struct: jax.ShapeDtypeStruct) -> str:
    """Return dtype and shape of a field in words, such as ``int32[None]``."""
    return describe({"field": struct})["field"]


def value_of(batch: Batch, name: str, option: str = "field") -> Any:
    """Return the column or leaf of a field.

    Raises:
        StageError: There is no such field.
    """
    return value_at(batch, path_of(batch, name, (option,)))


def with_result(batch: Batch, field: str, to: str | None, value: Any) -> dict[Any, Any]:
    """Return the batch with ``value`` as the new field ``to``, or in place of ``field`` if that is None.

    Raises:
        StageError: The name of the new field is taken.
    """
    if to is not None:
        return with_new_field(batch, to, value, ("to",))
    return with_value_at(batch, path_of(batch, field, ("field",)), value)
