"""A stage on the host that makes class numbers of names: `Lookup`."""

from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

import jax
import numpy as np
from flax import nnx
from pydantic import AfterValidator, ConfigDict, Field, PrivateAttr, model_validator

from datarax_core.config.base import NOT_NULL, Integer, LocalFile, Name, having, never
from datarax_core.errors import StageError, did_you_mean
from datarax_core.modules.state import checksum_of
from datarax_core.records.dtypes import is_integer, is_text
from datarax_core.records.spec import Batch, ElementSpec
from datarax_core.registry.stages import Stage
from datarax_core.stages.field_paths import leaf_of, struct_of
from datarax_core.stages.fields import NewName

from .columns import described, put, with_values

Classes: TypeAlias = tuple[str, ...] | tuple[int, ...]


def _each_once(classes: Classes) -> Classes:
    if len(set(classes)) < len(classes):
        twice = next(name for place, name in enumerate(classes) if name in classes[:place])
        raise ValueError(f"the class {twice!r} is in the list twice, so that it would have two numbers; name it once")
    return classes


class Lookup(Stage):
    """Stage on the host that makes class numbers of a field of text, bytes or integers: the places in a list, from 0.

    The list is in the config, or in a file with a class on each line. A value that is not in it is refused, unless ``unknown``
    gives a number for all such values. Fields of any shape are looked up, and those of varying length.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "lookup", "field": "label", "classes": ["cat", "dog"]}]}
    )

    type: Literal["lookup"] = "lookup"
    field: Name = Field(description="The field, by dotted name.")
    classes: (
        Annotated[
            Annotated[tuple[str, ...], Field(min_length=1)] | Annotated[tuple[Integer, ...], Field(min_length=1)],
            AfterValidator(_each_once),
        ]
        | None
    ) = Field(
        default=None,
        json_schema_extra={"uniqueItems": True},
        description="The classes, texts or integers; the first one has the number 0.",
    )
    file: LocalFile | None = Field(
        default=None, description="A text file with a class on each line, UTF-8; relative to the config file."
    )
    unknown: Integer | None = Field(
        default=None, description="The number of all values that are no class; without it, they are refused."
    )
    to: NewName | None = Field(
        default=None, description="The name of a new field for the numbers; without it, they replace the field."
    )
    dtype: Literal["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"] = Field(
        default="int32", description="The dtype of the numbers."
    )

    schema_rules: ClassVar = (
        {"anyOf": [having(classes=NOT_NULL), having(file=NOT_NULL)]},
        never(classes=NOT_NULL, file=NOT_NULL),
    )
    on_host: ClassVar[bool] = True

    _made: "ClassNumbers | None" = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _require_one_list(self) -> Self:
        if (self.classes is None) == (self.file is None):
            given = "neither is given" if self.classes is None else "both are given"
            raise ValueError(f"the classes are either a list, `classes`, or the lines of a `file`; {given}")
        return self

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return a stage with the table of all classes; a file is read here, once."""
        self._made = None
        self.element_spec(spec)
        return self._table(struct_of(spec, self.field))

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec with the numbers; a file is read when this, or the stage, is first called.

        Raises:
            StageError: There is no such field, it is of another kind than the classes, or the file has none.
        """
        struct = struct_of(spec, self.field)
        self._require_kind(struct)
        self._table(struct)
        return put(spec, self.field, self.to, jax.ShapeDtypeStruct(struct.shape, np.dtype(self.dtype)))

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the numbers: of a config that is called by itself, in a `Cache` for example."""
        return self._table(leaf_of(batch, self.field))(batch)

    def fingerprint(self) -> dict[str, Any]:
        """Return what a state tells of the classes; nothing before they are known."""
        return {} if self._made is None else self._made.fingerprint()

    def _table(self, field: Any) -> "ClassNumbers":
        """Return the stage with the table of classes, for a field or the spec of one."""
        if self._made is None:
            classes = self.classes or _lines(self.file or "", as_integers=is_integer(field.dtype))
            self._require_room(len(classes))
            self._made = ClassNumbers(self.model_copy(), classes)
        return self._made

    def _require_kind(self, struct: jax.ShapeDtypeStruct) -> None:
        title = described(struct)
        has_integers, has_text = is_integer(struct.dtype), is_text(struct.dtype) or struct.dtype == object
        if not (has_integers or has_text):
            raise StageError(f"field {self.field!r} is {title}; classes are texts or integers", ("field",))
        if self.classes is not None and isinstance(self.classes[0], int) != has_integers:
            kinds = ("texts", "integers without quotes") if has_integers else ("integers", "texts, in quotes")
            raise StageError(
                f"field {self.field!r} is {title}, and the classes are {kinds[0]}; write them as {kinds[1]}",
                ("classes",),
            )

    def _require_room(self, count: int) -> None:
        info = np.iinfo(self.dtype)
        numbers = [count - 1] if self.unknown is None else [count - 1, self.unknown]
        for number in numbers:
            if not info.min <= number <= info.max:
                whose = "the last class" if number is numbers[0] else "unknown values"
                raise StageError(
                    f"{self.dtype} does not hold {number}, the number of {whose}; choose another dtype", ("dtype",)
                )


class ClassNumbers:
    """Stage that `Lookup` builds: the numbers of its classes by name; equal to that of an equal config."""

    on_host: ClassVar[bool] = True

    def __init__(self, stage: Lookup, classes: Classes) -> None:
        self._stage = stage
        self._classes = classes
        self._numbers: dict[Any, int] = {name: number for number, name in enumerate(classes)}
        if isinstance(classes[0], str):  # for fields of bytes
            self._numbers.update({str(name).encode(errors="surrogatepass"): n for n, name in enumerate(classes)})
        self._tables: dict[np.dtype[Any], tuple[np.ndarray, np.ndarray]] = {}

    @property
    def name(self) -> str:
        """Name in errors."""
        return self._stage.type

    @property
    def classes(self) -> Classes:
        """The classes, in the order of their numbers."""
        return self._classes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClassNumbers):
            return NotImplemented
        return self._stage == other._stage and self._classes == other._classes

    def __hash__(self) -> int:
        return hash((self._stage, len(self._classes)))

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec with the numbers."""
        return self._stage.element_spec(spec)

    def fingerprint(self) -> dict[str, Any]:
        """Return a checksum of the classes, for states: those of a file may change."""
        return {"classes": checksum_of({"classes": self._classes})}

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the numbers.

        Raises:
            StageError: A value is no class, and there is no number for such values.
        """
        column = leaf_of(batch, self._stage.field)
        return put(batch, self._stage.field, self._stage.to, with_values(column, self._numbers_of))

    def _numbers_of(self, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind in "iu":
            return self._of_integers(values)
        flat, unknown, dtype = values.ravel().tolist(), self._stage.unknown, self._stage.dtype
        known: Any = map(self._numbers.__getitem__, flat)
        try:
            if unknown is not None:
                known = map(self._numbers.get, flat, repeat(unknown))
            return np.fromiter(known, dtype, len(flat)).reshape(values.shape)
        except KeyError as missing:
            raise self._unknown(missing.args[0]) from None
        except TypeError:  # a list has no hash
            odd = next(value for value in flat if not isinstance(value, str | bytes))
            raise self._unknown(odd) from None

    def _of_integers(self, values: np.ndarray) -> np.ndarray:
        names, numbers = self._sorted(values.dtype)
        places = np.searchsorted(names, values)
        places[places == len(names)] = 0
        is_known = names[places] == values if len(names) else np.zeros(values.shape, bool)
        if is_known.all():
            return numbers[places]
        if self._stage.unknown is None:
            raise self._unknown(values[~is_known][0].item())
        made = np.full(values.shape, self._stage.unknown, self._stage.dtype)
        made[is_known] = numbers[places[is_known]]
        return made

    def _sorted(self, dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return (classes in ascending order, their numbers), in the dtype of a field, which others do not occur in."""
        if dtype not in self._tables:
            info = np.iinfo(dtype)
            held = sorted((name, number) for name, number in self._numbers.items() if info.min <= name <= info.max)
            names, numbers = ([pair[place] for pair in held] for place in (0, 1))
            self._tables[dtype] = np.array(names, dtype), np.array(numbers, self._stage.dtype)
        return self._tables[dtype]

    def _unknown(self, value: Any) -> StageError:
        stage = self._stage
        names = [name for name in self._classes[:_COMPARED] if isinstance(name, str)]
        hint = did_you_mean(value, names) if isinstance(value, str) else ""
        where = "`classes`" if stage.file is None else stage.file
        return StageError(
            f"field {stage.field!r} holds {value!r:.80}, which is none of the {len(self._classes):,} classes{hint}; add it to "
            f"{where}, or set unknown to a number for such values",
            ("field",),
        )


_COMPARED = 1000
"""Classes that are compared with a misspelt one."""


def _lines(file: str, *, as_integers: bool) -> Classes:
    """Return the lines of a file.

    Raises:
        StageError: The file cannot be read, or has no line, an empty one, one twice, or one that is no integer.
    """
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) else f"it is no UTF-8: {cause}"
        raise StageError(f"{file} cannot be read: {reason}", ("file",)) from cause
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise StageError(f"{file} is empty; write a class on each line", ("file",))
    place_of: dict[str, int] = {}
    for place, line in enumerate(lines, 1):
        if not line:
            raise StageError(f"{file}:{place}: the line is empty; write a class on each line", ("file",))
        if place_of.setdefault(line, place) != place:
            raise StageError(
                f"{file}:{place}: the class {line!r} is on line {place_of[line]} already; name it once", ("file",)
            )
    return _integers(file, lines) if as_integers else tuple(lines)


def _integers(file: str, lines: Sequence[str]) -> Classes:
    numbers: list[int] = []
    for place, line in enumerate(lines, 1):
        try:
            numbers.append(int(line))
        except ValueError:
            raise StageError(
                f"{file}:{place}: {line!r:.40} is no integer, as the classes of a field of integers are", ("file",)
            ) from None
    try:
        return _each_once(tuple(numbers))
    except ValueError as twice:
        raise StageError(f"{file}: {twice}", ("file",)) from None
