"""Stages on the host that bring fields of varying length to one length: `Pad` and `Truncate`."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

import jax
import numpy as np
from flax import nnx
from pydantic import AfterValidator, ConfigDict, Field, model_validator

from datarax_core.config.base import NOT_NULL, Count, Flag, Integer, Name, Real, having, never
from datarax_core.errors import StageError
from datarax_core.records.dtypes import fits_device, is_float, is_integer, is_text, limits
from datarax_core.records.gathers import aligned_empty
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, ElementSpec
from datarax_core.registry.stages import Stage
from datarax_core.stages.field_paths import leaf_of, struct_of, with_new_field
from datarax_core.stages.fields import NewName

from .columns import described, objects, put

Side: TypeAlias = Literal["right", "left"]
"""The end of a record, or its beginning."""


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if twice := [value for place, value in enumerate(values) if value in values[:place]]:
        raise ValueError(f"{twice[0]!r} is in the list twice; write it once")
    return values


Fields: TypeAlias = Name | Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_each_once)]
"""One field, or several, by dotted name."""


def _named(fields: str | tuple[str, ...]) -> Iterator[tuple[str, tuple[int | str, ...]]]:
    """Yield (name, place in the config) of each field."""
    if isinstance(fields, str):
        yield fields, ("field",)
    else:
        yield from ((name, ("field", number)) for number, name in enumerate(fields))


class Pad(Stage):
    """Stage on the host that brings fields of varying length to one length: ``value`` stands where a record has ended.

    With ``length``, all batches have that length; where several axes vary, it is a list with a length for each. With
    ``lengths``, a batch has the smallest of them that fits its longest record: stages are compiled once for each length, when
    it first occurs, and ``scan``, which has one shape for all batches, refuses them. A record that is too long is refused,
    unless ``truncate`` cuts it.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "pad", "field": "tokens", "length": 128, "mask_field": "is_token"}]}
    )

    type: Literal["pad"] = "pad"
    field: Fields = Field(
        json_schema_extra={"uniqueItems": True}, description="The field, or a list of fields, by dotted name."
    )
    length: Count | Annotated[tuple[Count, ...], Field(min_length=1)] | None = Field(
        default=None, description="The length of all records; a list has one for each axis that varies."
    )
    lengths: Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(_each_once)] | None = Field(
        default=None,
        json_schema_extra={"uniqueItems": True},
        description="Lengths of batches, in place of length: a batch has the smallest that fits its longest record.",
    )
    value: Integer | Real | Flag = Field(default=0, description="What stands where a record has ended.")
    side: Side = Field(default="right", description="The side of a record on which values are added.")
    truncate: Side | None = Field(
        default=None, description="The side on which a record that is too long is cut; without it, it is refused."
    )
    mask_field: NewName | None = Field(
        default=None, description="The name of a new field, true for the values of the record, false for padding."
    )
    length_field: NewName | None = Field(
        default=None, description="The name of a new int32 field for the length of each record, after cutting."
    )

    schema_rules: ClassVar = (
        {"anyOf": [having(length=NOT_NULL), having(lengths=NOT_NULL)]},
        never(length=NOT_NULL, lengths=NOT_NULL),
    )
    on_host: ClassVar[bool] = True

    @model_validator(mode="after")
    def _require_one_length(self) -> Self:
        if (self.length is None) == (self.lengths is None):
            given = "neither is given" if self.length is None else "both are given"
            raise ValueError(f"records are padded to one `length`, or to one of `lengths` for each batch; {given}")
        return self

    @property
    def whole_batch(self) -> bool:
        """Whether the stage is called with all rows of a batch, which it finds the length of."""
        return self.lengths is not None

    def with_one_shape(self) -> Self:
        """Return the stage that pads each batch to the greatest length, by which the spec of stages behind it is found."""
        return self.model_copy(update={"length": max(self.lengths), "lengths": None}) if self.lengths else self

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage itself, after a check of the fields."""
        self.element_spec(spec)
        return self

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec with fields of one length: of ``lengths``, the greatest.

        Raises:
            StageError: A field cannot be padded to this length, or with this value.
        """
        made, sizes = spec, self._greatest
        for name, option in _named(self.field):
            struct = struct_of(spec, name, option)
            shape = self._padded_shape(struct, name, option)
            made = put(made, name, None, jax.ShapeDtypeStruct(shape, struct.dtype))
        if self.mask_field is not None:
            mask = jax.ShapeDtypeStruct(sizes, np.dtype(np.bool_))
            made = with_new_field(made, self.mask_field, mask, ("mask_field",))
        if self.length_field is not None:
            length = jax.ShapeDtypeStruct(() if len(sizes) == 1 else (len(sizes),), np.dtype(np.int32))
            made = with_new_field(made, self.length_field, length, ("length_field",))
        return made

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the fields padded.

        Raises:
            StageError: A record is too long, or fields whose mask or lengths are asked for differ in them.
        """
        columns = {name: leaf_of(batch, name, option) for name, option in _named(self.field)}
        sizes = {name: _sizes(column, len(self._greatest)) for name, column in columns.items()}
        wanted = self._lengths_for(sizes)
        for name, column in columns.items():
            if self.truncate is None:
                self._require_fit(name, sizes[name], wanted)
            padded = _padded(_cut(column, sizes[name], wanted, self.truncate), wanted, self.value, self.side)
            batch = put(batch, name, None, padded)
        if self.mask_field is None and self.length_field is None:
            return batch
        kept = np.minimum(self._common(sizes), wanted)
        if self.mask_field is not None:
            batch = with_new_field(batch, self.mask_field, _mask(kept, wanted, self.side), ("mask_field",))
        if self.length_field is not None:
            lengths = kept.astype(np.int32)
            lengths = lengths[:, 0] if len(wanted) == 1 else lengths
            batch = with_new_field(batch, self.length_field, lengths, ("length_field",))
        return batch

    @property
    def _greatest(self) -> tuple[int, ...]:
        """The greatest length of each axis that is padded."""
        if self.lengths is not None:
            return (max(self.lengths),)
        return self.length if isinstance(self.length, tuple) else (self.length or 0,)

    def _lengths_for(self, sizes: dict[str, np.ndarray]) -> tuple[int, ...]:
        if self.lengths is None:
            return self._greatest
        longest = max(int(each.max(initial=0)) for each in sizes.values())
        return (min((length for length in self.lengths if length >= longest), default=max(self.lengths)),)

    def _padded_shape(self, struct: jax.ShapeDtypeStruct, name: str, option: tuple[int | str, ...]) -> tuple[int, ...]:
        """Return the shape of a record of a field after padding; raise if it cannot be padded."""
        if not fits_device(struct.dtype):
            remedy = "; tokenize_bytes makes tokens of text" if struct.dtype.kind in "UTO" else ""
            raise StageError(f"field {name!r} is {described(struct)}; numbers and bool are padded{remedy}", option)
        self._require_value(name, struct.dtype)
        wanted, shape = self._greatest, list(struct.shape)
        axes = [axis for axis, size in enumerate(shape) if size is None] or list(range(min(len(wanted), len(shape))))
        if not axes:
            raise StageError(
                f"field {name!r} is {described(struct)}, a single value a record, which has no length", option
            )
        if len(axes) != len(wanted):
            raise StageError(
                f"field {name!r} is {described(struct)}, of which {len(axes)} axes are padded; give length a list of "
                f"{len(axes)} numbers, one for each",
                ("length",) if self.lengths is None else ("lengths",),
            )
        for axis, length in zip(axes, wanted, strict=True):
            size = shape[axis]
            if size is not None and size > length and self.truncate is None:
                raise self._too_long(name, size, length)
            shape[axis] = length
        return tuple(shape)

    def _require_fit(self, name: str, sizes: np.ndarray, wanted: tuple[int, ...]) -> None:
        if (too_long := sizes > wanted).any():
            row, axis = np.argwhere(too_long)[0]
            raise self._too_long(name, int(sizes[row, axis]), wanted[axis])

    def _too_long(self, name: str, size: int, length: int) -> StageError:
        option = "length" if self.lengths is None else "lengths"
        return StageError(
            f"field {name!r} has a record of length {size}, and records are padded to {length}; choose a greater length, or "
            "set truncate to cut what is too long",
            (option,),
        )

    def _common(self, sizes: dict[str, np.ndarray]) -> np.ndarray:
        """Return the lengths of the records, which all fields have; raise if they differ."""
        (first, common), *others = sizes.items()
        for name, each in others:
            if (differ := (each != common).any(axis=1)).any():
                row = int(np.argmax(differ))
                option = "mask_field" if self.mask_field is not None else "length_field"
                raise StageError(
                    f"a record has length {_title(common[row])} in field {first!r} and {_title(each[row])} in field {name!r}, "
                    f"so that one {option} does not fit both; pad them in stages of their own",
                    (option,),
                )
        return common

    def _require_value(self, name: str, dtype: np.dtype[Any]) -> None:
        value = self.value
        if dtype == np.bool_:
            fits = value in (0, 1)
        elif isinstance(value, bool) or (is_integer(dtype) and not isinstance(value, int)):
            fits = False
        elif is_integer(dtype):
            least, greatest = limits(dtype)
            fits = least <= value <= greatest
        else:
            real = dtype if is_float(dtype) else np.finfo(dtype).dtype
            greatest = limits(real)[1]
            fits = abs(value) <= greatest and (isinstance(value, float) or int(np.array(value, real)) == value)
        if not fits:
            raise StageError(f"field {name!r} is {dtype}, which has no value {value!r} to pad with", ("value",))


class Truncate(Stage):
    """Stage on the host that cuts records of fields of varying length, and text, to a length; shorter records stay as they are.

    A field of one length gets this one if it is longer. Text is cut to so many characters, bytes to so many bytes.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "truncate", "field": "tokens", "length": 128}]})

    type: Literal["truncate"] = "truncate"
    field: Fields = Field(
        json_schema_extra={"uniqueItems": True}, description="The field, or a list of fields, by dotted name."
    )
    length: Count = Field(description="The greatest length of a record.")
    side: Side = Field(default="right", description="The side on which a record that is too long is cut.")

    on_host: ClassVar[bool] = True

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage itself, after a check of the fields."""
        self.element_spec(spec)
        return self

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec, in which fields of one length may have a smaller one.

        Raises:
            StageError: A field does not exist, is a single number, or varies in other axes than the first.
        """
        for name, option in _named(self.field):
            struct = struct_of(spec, name, option)
            shape = self._cut_shape(struct, name, option)
            spec = put(spec, name, None, jax.ShapeDtypeStruct(shape, struct.dtype))
        return spec

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the records cut."""
        for name, _ in _named(self.field):
            batch = put(batch, name, None, self._cut(leaf_of(batch, name), name))
        return batch

    def _cut_shape(self, struct: jax.ShapeDtypeStruct, name: str, option: tuple[int | str, ...]) -> tuple[Any, ...]:
        shape: tuple[Any, ...] = struct.shape
        if not shape and (is_text(struct.dtype) or struct.dtype == object):
            return shape
        if not shape:
            raise StageError(
                f"field {name!r} is {described(struct)}, a single value a record, which has no length", option
            )
        if None in shape[1:]:
            raise StageError(
                f"field {name!r} is {described(struct)}, of which more than the first axis varies; pad cuts several axes, with "
                "a list of lengths and truncate",
                option,
            )
        return (shape[0] if shape[0] is None else min(shape[0], self.length), *shape[1:])

    def _cut(self, column: Any, name: str) -> Any:
        if isinstance(column, Ragged):
            return column.truncate(self.length, self.side)
        if column.ndim > 1:
            return column[:, _kept(column.shape[1], self.length, self.side)]
        values = column.tolist()
        if odd := [value for value in values if not isinstance(value, str | bytes)]:
            raise StageError(
                f"field {name!r} holds {odd[0]!r:.40}, a {type(odd[0]).__name__}, which is neither text nor bytes",
                ("field",),
            )
        return objects([value[_kept(len(value), self.length, self.side)] for value in values])


def _kept(size: int, length: int, side: Side) -> slice:
    """Return the slice of a record, or of an axis, of ``size`` that is left of it."""
    return slice(None, length) if side == "right" else slice(max(0, size - length), None)


def _sizes(column: Any, axes: int) -> np.ndarray:
    """Return int64 (k, axes): the sizes of the axes of each record that vary, or that are padded."""
    if not isinstance(column, Ragged):
        return np.broadcast_to(np.array(column.shape[1 : axes + 1], np.int64), (len(column), axes))
    if column.shapes is None:
        return column.lengths[:, None]
    return column.shapes[:, [axis for axis, size in enumerate(column.record_shape) if size is None]]


def _cut(column: Any, sizes: np.ndarray, wanted: tuple[int, ...], side: Side | None) -> Any:
    """Return a column whose records are no longer than wanted, cut on this side."""
    if side is None or not (sizes > wanted).any():
        return column
    if not isinstance(column, Ragged):
        cuts = (_kept(size, length, side) for size, length in zip(column.shape[1:], wanted, strict=False))
        return column[(slice(None), *cuts)]
    if column.shapes is None:
        return column.truncate(wanted[0], side)
    axes = [axis for axis, size in enumerate(column.record_shape) if size is None]
    records = []
    for record in column:
        kept = [slice(None)] * record.ndim
        for axis, length in zip(axes, wanted, strict=True):
            kept[axis] = _kept(record.shape[axis], length, side)
        records.append(record[tuple(kept)])
    return Ragged.from_list(records, column.dtype, column.record_shape)


def _padded(column: Any, wanted: tuple[int, ...], value: Any, side: Side) -> np.ndarray:
    if isinstance(column, Ragged):
        return column.to_padded(wanted, value, side)
    sizes = column.shape[1 : len(wanted) + 1]
    if sizes == wanted:
        return np.asarray(column)
    padded = aligned_empty((len(column), *wanted, *column.shape[len(wanted) + 1 :]), column.dtype)
    padded[...] = value
    places = (
        slice(size) if side == "right" else slice(length - size, None)
        for size, length in zip(sizes, wanted, strict=True)
    )
    padded[(slice(None), *places)] = column
    return padded


def _mask(sizes: np.ndarray, wanted: tuple[int, ...], side: Side) -> np.ndarray:
    """Return bool (k, *wanted): true where a record has values."""
    mask: Any = None
    for axis, length in enumerate(wanted):
        ends = sizes[:, axis].reshape(-1, *(1 for _ in wanted))
        places = np.arange(length).reshape(*(-1 if each == axis else 1 for each in range(len(wanted))))
        inside = places < ends if side == "right" else places >= length - ends
        mask = inside if mask is None else mask & inside
    return np.asarray(mask)


def _title(sizes: np.ndarray) -> str:
    return str(int(sizes[0])) if len(sizes) == 1 else str(sizes.tolist())
