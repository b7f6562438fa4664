"""Stages that change the numbers of a field: `cast`, `one_hot` and `rescale`."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from pydantic import AfterValidator, ConfigDict, Field

from datarax_core.config.base import Count, Flag, Name, Real
from datarax_core.errors import StageError
from datarax_core.records.dtypes import float_info, holds, is_float, is_integer, limits
from datarax_core.records.spec import Batch, ElementSpec
from datarax_core.registry.stages import Stage

from .field_paths import change_field, field_of

FloatName: TypeAlias = Literal["float32", "float16", "bfloat16", "float64"]
"""Names of the dtypes of floats."""

NumberName: TypeAlias = Literal[FloatName, "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
"""Names of the dtypes that a field can be cast to."""


class Cast(Stage):
    """Stage that casts a field to another dtype and keeps each value.

    A dtype that does not hold every value of the field's dtype is refused when the pipeline is built: no integer wraps around,
    and no fraction is cut off. With ``lossy``, a value that the dtype does not hold becomes the nearest value that it holds:
    the even one of two that are equally near, and the end of the range for a value out of range. Infinity stays infinity in
    a float; NaN becomes 0 in an integer.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "cast", "field": "label", "dtype": "int32"}]})

    type: Literal["cast"] = "cast"
    field: Name = Field(description="The field, by dotted name.")
    dtype: NumberName = Field(description="The dtype of the result.")
    lossy: Flag = Field(default=False, description="Take the nearest value where the dtype does not hold a value.")

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage itself, after a check of the field's dtype."""
        self._require(field_of(spec, self.field))
        return self

    def before_narrowing(self, fields: Batch) -> Batch:
        """Return the fields as stored; a lossy cast takes the nearest values of all 64 bits."""
        return change_field(
            fields, self.field, lambda field: field.nearest(self.dtype) if self.lossy else field.narrowed()
        )

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the field cast."""
        return change_field(batch, self.field, self._cast)

    def _cast(self, array: Any) -> jax.Array:
        array = jnp.asarray(array)
        self._require(array)
        dtype = _device_dtype(self.dtype)
        return array.astype(dtype) if holds(dtype, array.dtype) else _nearest(array, dtype)

    def _require(self, field: Any) -> None:
        _require_real(self.field, field.dtype)
        if self.lossy or holds(_device_dtype(self.dtype), field.dtype):
            return
        least, greatest = limits(field.dtype)
        values = "fractions" if is_float(field.dtype) else f"integers from {least:g} to {greatest:g}"
        raise StageError(
            f"field {self.field!r} is {field.dtype}, and {self.dtype} does not hold all its values, {values}; choose a dtype "
            "that does, or set lossy to take the nearest ones",
            ("dtype",),
        )


def _nearest(array: jax.Array, dtype: Any) -> jax.Array:
    """Return each value as the nearest value of ``dtype``; see `Cast` for ties, infinity and NaN."""
    if not is_float(array.dtype):
        return _integers_as_floats(array, dtype) if is_float(dtype) else _clipped(array, dtype).astype(dtype)
    array = array.astype(jnp.promote_types(array.dtype, np.float32))  # which holds the limits of all smaller floats
    lowest, highest = limits(dtype)
    if is_integer(dtype):
        rounded = jnp.round(array)
        above, below = rounded >= float(highest), rounded <= float(lowest)
        inside = jnp.where(above | below | jnp.isnan(rounded), 0, rounded).astype(dtype)
        return jnp.where(above, jnp.asarray(highest, dtype), jnp.where(below, jnp.asarray(lowest, dtype), inside))
    return jnp.where(jnp.isinf(array), array, jnp.clip(array, lowest, highest)).astype(dtype)


def _clipped(array: jax.Array, dtype: Any) -> jax.Array:
    """Return integers within the range of ``dtype``."""
    (least, greatest), (lowest, highest) = limits(array.dtype), limits(dtype)
    bounds = max(int(lowest), int(least)), min(int(highest), int(greatest))
    return jnp.clip(array, *(jnp.asarray(bound, array.dtype) for bound in bounds))


def _integers_as_floats(array: jax.Array, dtype: Any) -> jax.Array:
    """Return integers as floats, those of 32 bits rounded once: XLA would round to float32 on the way to smaller floats."""
    if array.dtype.itemsize != 4 or float_info(dtype).nmant >= float_info(np.float32).nmant:
        return _clipped(array, dtype).astype(dtype)
    low = array & 0x1FF
    one = jnp.asarray(0x100, array.dtype)  # stands for all bits below, which only have to break ties
    has_float32 = jnp.abs(array.astype(np.float32)) < 2.0**24
    held = jnp.where(has_float32, array, (array - low) | jnp.where(low != 0, one, 0).astype(array.dtype))
    return _clipped(held, dtype).astype(np.float32).astype(dtype)


_MOST_CLASSES: Final = 2**31 - 1  # places of an axis that indices of 32 bits reach


class OneHot(Stage):
    """Stage that makes one-hot rows, on a new last axis, of a field of class numbers that count from 0.

    A number outside of ``classes`` makes a row of NaN: compiled code cannot raise an error, and a loss of NaN is seen.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "one_hot", "field": "label", "classes": 10}]})

    type: Literal["one_hot"] = "one_hot"
    field: Name = Field(description="The field, by dotted name.")
    classes: Annotated[Count, Field(le=_MOST_CLASSES)] = Field(description="Number of classes, the length of a row.")
    dtype: FloatName = Field(default="float32", description="The dtype of the rows.")

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage itself, after a check of the field's dtype."""
        self._require(field_of(spec, self.field).dtype)
        return self

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the classes as rows."""
        return change_field(batch, self.field, self._rows)

    def _rows(self, labels: Any) -> jax.Array:
        labels = jnp.asarray(labels)
        self._require(labels.dtype)
        if labels.dtype.itemsize < 4:  # comparisons with more classes than the dtype holds would wrap around
            labels = labels.astype(np.int32)
        is_class = (labels >= 0) & (labels < self.classes)
        rows = jax.nn.one_hot(labels, self.classes, dtype=_device_dtype(self.dtype))
        return jnp.where(is_class[..., None], rows, jnp.nan)

    def _require(self, dtype: Any) -> None:
        _device_dtype(self.dtype)
        if not is_integer(dtype):
            raise StageError(f"field {self.field!r} is {dtype}; classes are integers from 0", ("field",))


def _not_zero(value: float) -> float:
    if value == 0:
        raise ValueError("a scale of 0 makes all values one; give another, or leave the field out with a select stage")
    return value


Scale = Annotated[Real, AfterValidator(_not_zero), Field(json_schema_extra={"not": {"const": 0}})]


class Rescale(Stage):
    """Stage that makes ``field * scale + offset`` of a field, in floats; gradients flow through it.

    The result is computed in float32 (float64 if that is the dtype) and then rounded to the dtype. A field of integers that
    float32 does not hold (int32, uint32) is refused when the pipeline is built, unless ``lossy`` takes the nearest float of
    each; so is a dtype whose range is smaller than that of the field's floats, or of the results for the field's integers:
    only floats can overflow, by a large ``scale``.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "rescale", "field": "image", "scale": 0.00392156862745098}]}
    )

    type: Literal["rescale"] = "rescale"
    field: Name = Field(description="The field, by dotted name.")
    scale: Scale | Annotated[tuple[Scale, ...], Field(min_length=1)] = Field(
        description="Factor; a list has a number for each place on the last axis, such as each channel."
    )
    offset: Real | Annotated[tuple[Real, ...], Field(min_length=1)] = Field(
        default=0.0, description="Number added after scaling; a list has a number for each place on the last axis."
    )
    dtype: FloatName = Field(default="float32", description="The dtype of the result.")
    lossy: Flag = Field(default=False, description="Take the nearest float of an integer that float32 does not hold.")

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage itself, after a check of the field's dtype."""
        struct = field_of(spec, self.field)
        self._require(struct.dtype, struct.shape)
        return self

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the field rescaled."""
        return change_field(batch, self.field, self._rescaled)

    def _rescaled(self, array: Any) -> jax.Array:
        array = jnp.asarray(array)
        self._require(array.dtype, array.shape[1:])
        dtype = _device_dtype(self.dtype)
        wide = _computed_in(dtype)
        scaled: jax.Array = array.astype(wide) * jnp.asarray(self.scale, wide) + jnp.asarray(self.offset, wide)
        return scaled.astype(dtype)

    def _require(self, dtype: Any, shape: tuple[int, ...]) -> None:
        _require_real(self.field, dtype)
        to = _device_dtype(self.dtype)
        numbers = {"scale": np.atleast_1d(self.scale), "offset": np.atleast_1d(self.offset)}
        for option, given in numbers.items():
            self._require_numbers(option, given, shape, to)
        highest = limits(to)[1]
        if is_float(dtype):
            if limits(dtype)[1] > highest:
                raise StageError(
                    f"field {self.field!r} is {dtype}, and {self.dtype} has a smaller range, up to {highest:g}; rescale to "
                    f"{dtype}, and cast that with lossy",
                    ("dtype",),
                )
            return
        ends = np.array(limits(dtype), np.float64)[:, None] * numbers["scale"] + numbers["offset"]
        if (largest := float(np.abs(ends).max())) > highest:
            raise StageError(
                f"field {self.field!r} is {dtype}, whose values become as large as {largest:g}, and {self.dtype} holds no more "
                f"than {highest:g}; choose a smaller scale or another dtype",
                ("dtype",),
            )
        if not (self.lossy or holds(_computed_in(to), dtype)):
            wide = _computed_in(to)
            raise StageError(
                f"field {self.field!r} is {dtype}, and {wide}, in which it is rescaled, does not hold all integers above "
                f"{2 ** (float_info(wide).nmant + 1)}; set lossy, which takes the nearest of those "
                "and changes no others, or cast the field before",
                ("dtype",),
            )

    def _require_numbers(self, option: str, given: np.ndarray, shape: tuple[int, ...], to: np.dtype[Any]) -> None:
        if isinstance(getattr(self, option), tuple) and shape[-1:] != given.shape:
            raise StageError(
                f"{given.size} numbers are given, and field {self.field!r} of shape {list(shape)} has "
                f"{shape[-1] if shape else 'no'} places on its last axis; give one number for each, or one for all",
                (option,),
            )
        with np.errstate(over="ignore", under="ignore"):
            kept = given.astype(_computed_in(to))
        for wanted, number in zip(given.tolist(), kept.tolist(), strict=True):
            if not math.isfinite(number) or (wanted and not number):
                raise StageError(
                    f"{wanted!r} becomes {number!r} in {_computed_in(to)}; write another number", (option,)
                )


def _computed_in(dtype: Any) -> np.dtype[Any]:
    """Return the dtype in which a result of ``dtype`` is computed."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def _device_dtype(name: str) -> np.dtype[Any]:
    """Return the dtype called ``name``.

    Raises:
        StageError: The dtype has 64 bits, and JAX's x64 mode is off.
    """
    dtype: np.dtype[Any] = jnp.dtype(name)
    if (kept := jax.dtypes.canonicalize_dtype(dtype)) != dtype:
        raise StageError(
            f"{name} is kept by a device only with JAX_ENABLE_X64=1, and becomes {kept} without it; choose that, or set it",
            ("dtype",),
        )
    return dtype


def _require_real(field: str, dtype: Any) -> None:
    """Raise ``StageError`` if a field is complex."""
    if jnp.issubdtype(dtype, np.complexfloating):
        raise StageError(f"field {field!r} is {dtype}; take real numbers of it in a stage of your own", ("field",))
