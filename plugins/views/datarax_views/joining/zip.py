"""Fields of aligned sources side by side: record i has the fields of record i of each source."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import jax
import numpy as np
from flax import nnx
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
    field_validator,
)

from datarax_core.config import NOT_NULL, Name, SourceConfig, listed_by_key, never
from datarax_core.errors import SpecError
from datarax_core.records import Batch, ElementSpec, Ragged, dotted_name, split_name
from datarax_core.sources import DataSourceModule

from .config import JoinedConfig
from .joined import Join, JoinedView, Reads, listed_sources


def _have_distinct_names(fields: dict[str, str]) -> dict[str, str]:
    new = list(fields.values())
    if twice := [name for name in new if new.count(name) > 1]:
        raise ValueError(f"two fields are renamed to {twice[0]!r}; give each a name of its own")
    return fields


def _numbers_as_text(value: Any) -> Any:
    """Return a mapping by number, as YAML and Python have it, as one by text, as JSON has it."""
    if not isinstance(value, Mapping):
        return value
    return {str(key) if type(key) is int else key: own for key, own in value.items()}


class ZipViewConfig(JoinedConfig):
    """Config of a `ZipView`.

    With ``names``, or with ``sources`` as a mapping by name, the fields of each source are below its name.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "zip",
                    "sources": {
                        "image": {"type": "memory", "path": "images.npz", "shuffle": True},
                        "text": {"type": "memory", "path": "captions"},
                    },
                },
                {
                    "type": "zip",
                    "rename": {"1": {"label": "other_label"}},
                    "sources": [{"type": "memory", "path": "images.npz"}, {"type": "memory", "path": "more.npz"}],
                },
            ]
        }
    )

    type: Literal["zip"] = "zip"
    prefix: Annotated[
        tuple[str, ...] | None,
        WrapValidator(listed_by_key),
        WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]}),
    ] = Field(
        default=None, description="For each source, a text before the names of its fields; an empty one for none."
    )
    rename: Annotated[
        dict[Name, Annotated[dict[Name, Name], AfterValidator(_have_distinct_names)]], BeforeValidator(_numbers_as_text)
    ] = Field(default={}, description="By number of the source, from 0, new names of its fields: {old: new}.")

    schema_rules: ClassVar = (
        *JoinedConfig.schema_rules,
        never(names=NOT_NULL, prefix=NOT_NULL),
        never(sources={"type": "object"}, prefix=NOT_NULL),
        never(names=NOT_NULL, rename={"minProperties": 1}),
        never(sources={"type": "object"}, rename={"minProperties": 1}),
    )

    @field_validator("prefix", "rename")
    @classmethod
    def _not_below_names(cls, value: Any, info: ValidationInfo) -> Any:
        if value and info.data.get("names") is not None:
            raise ValueError(
                f"the fields of each source are below its name already, so that {info.field_name} has no use; leave it out, or "
                "give the sources as a list without names"
            )
        return value


class ZipView(JoinedView):
    """The fields of aligned sources side by side: record i has the fields of record i of each source.

    Fields keep their names, which have to differ; ``prefix`` and ``rename`` change them. With ``names``, or if the sources are
    a mapping by name, the fields of each source are below its name: ``{"image": {...}, "text": {...}}``; then records may also
    be single arrays.

    Sources are paired by record index. Their own orders are not followed: the order is the view's, shuffled if the first source
    is, unless ``shuffle`` says otherwise.

    Args:
        config: The names, and the order.
        sources: The sources, of one length: one by one, as a list, or as a mapping by name.
        rngs: Random streams that the key of a shuffle is drawn from; by default it is the first source's.
        name: Name of the view in errors.

    Raises:
        TypeError: A source is none.
        ValueError: There are no sources, they differ in length, or one serves some records more often than others.
        SpecError: Two sources have a field of one name, or records are not dicts and have no name.
        NotImplementedError: A source is a stream.
    """

    config_class: ClassVar[type[SourceConfig]] = ZipViewConfig
    config: ZipViewConfig
    renumbers: ClassVar[bool] = True

    def __init__(
        self,
        config: ZipViewConfig,
        *sources: Any,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        for source in listed_sources(sources, type(self).__name__)[1]:
            if isinstance(source, DataSourceModule) and not source.serves_each_once:
                raise ValueError(
                    f"{type(self).__name__} pairs records by their index, in an order of its own, which would lose how often "
                    f"{source.title} serves each; zip the sources that it is made of, and mix, repeat or sample the zip"
                )
        super().__init__(config, *sources, rngs=rngs, name=name)
        self._length = self._common_length()
        self._fields = self._arranged_fields()
        for number, source in enumerate(self.parents):
            if self.varies_by_epoch and source.reorders_by_epoch:
                warnings.warn(
                    f"{self.called(number)} of {self.title} has other records at its indices in each epoch, by which records "
                    "are paired: those of its first epoch are served in all",
                    stacklevel=2,
                )

    def __len__(self) -> int:
        return self._length

    def element_spec(self) -> ElementSpec:
        """Return the fields of all sources."""
        return self._fields.joined([parent.element_spec() for parent in self.parents])

    # -- records -------------------------------------------------------------------------------------------------------------

    def parts_of(self, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield (number of a source, all rows of the batch, the record indices) for each source."""
        rows = np.arange(len(indices))
        for number in range(len(self.parents)):
            yield number, rows, indices

    def put_together(self, parts: Iterable[tuple[int, np.ndarray, Any]], size: int) -> Batch:  # noqa: ARG002 - as of parts
        """Return the fields of all sources side by side."""
        return self._fields.joined([batch for _, _, batch in parts])

    def merged_host_fields(self, parts: Iterable[tuple[int, np.ndarray, dict[str, Any]]], size: int) -> dict[str, Any]:  # noqa: ARG002 - as of parts
        """Return the host fields of all sources side by side."""
        joined: dict[str, Any] = self._fields.joined([fields for _, _, fields in parts])
        return joined

    def traced_join(self) -> tuple[Join, Any]:
        """Return (gather from every source, None)."""
        return ReadsFields(self._fields), None

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """Return the records at concrete ``indices`` one by one, with the values that each source returns."""
        if self._keeps_records:
            return super().get_elements(indices)
        of_sources = [self.parents[number].get_elements(own) for number, _, own in self._parts(indices)]
        return [self._fields.joined(elements) for elements in zip(*of_sources, strict=True)]

    def follows_epochs(self, number: int) -> bool:
        """Return whether a source's records are read as they are in each epoch: not if they change places with it."""
        source = self.parents[number]
        return source.varies_by_epoch and not source.reorders_by_epoch

    @property
    def reorders_by_epoch(self) -> bool:
        """False: a source whose records change places from epoch to epoch is read as in its first."""
        return False

    def whole_column(self, field: str) -> np.ndarray | Ragged | None:
        """Return the column of a field, if its source knows it."""
        number, own = self._fields.source_of(field)
        return None if number is None or self._hooks_reads else self.parents[number].whole_column(own)

    def record_lengths(self, field: str) -> np.ndarray | None:
        """Return int64 (num_records,): the lengths of a field that its source knows."""
        number, own = self._fields.source_of(field)
        return super().record_lengths(field) if number is None else self.parents[number].record_lengths(own)

    # -- description ---------------------------------------------------------------------------------------------------------

    def describe_view(self) -> str:
        """Return how many sources are side by side, and their fields."""
        spec = self.element_spec()
        return f"{len(self.parents)} sources side by side, {self._length:,} records of {', '.join(map(str, spec))}"

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _common_length(self) -> int:
        lengths = [parent.num_records for parent in self.parents]
        if len(set(lengths)) > 1:
            listed = ", ".join(f"{self.called(number)} has {length:,}" for number, length in enumerate(lengths))
            shortest = min(lengths)
            raise ValueError(
                f"the sources of {self.title} differ in their number of records, {listed}; records are paired by index, so "
                f"give all as many: source[:{shortest}] in Python, a view of type subset in configs"
            )
        return lengths[0]

    def _arranged_fields(self) -> "ZippedFields":
        config, count = self.config, len(self.parents)
        if config.names is not None and (config.prefix or config.rename):
            raise ValueError(
                f"the fields of each source of {self.title} are below its name already, so that prefix and rename have no use; "
                "give the sources as a list, or leave these out"
            )
        if config.names is not None:
            return ZippedFields(tuple((name, None) for name in config.names))
        if config.prefix is not None and len(config.prefix) != count:
            raise ValueError(
                f"{self.title} has {count} sources, and prefix has {len(config.prefix)} entries; give each source one, an "
                "empty text for none"
            )
        if unknown := [number for number in config.rename if number not in map(str, range(count))]:
            raise ValueError(
                f"rename names source {unknown[0]!r}, and the sources of {self.title} are numbered 0 to {count - 1}"
            )
        renamed = [self._new_names(number) for number in range(count)]
        owners: dict[str, int] = {}
        for number, fields in enumerate(renamed):
            for new in fields.values():
                if new in owners:
                    raise SpecError(
                        f"{self.called(owners[new])} and {self.called(number)} of {self.title} both have a field {new!r}; "
                        f"rename one, rename={{'{number}': {{'{new}': 'other_{new}'}}}}, give each source a prefix, or name "
                        "the sources, so that the fields of each are below its name"
                    )
                owners[new] = number
        return ZippedFields(tuple((None, tuple(fields.items())) for fields in renamed))

    def _new_names(self, number: int) -> dict[str, str]:
        """Return the names of a source's fields in the view, by their names in the source."""
        spec = self.parents[number].element_spec()
        if not isinstance(spec, Mapping):
            raise SpecError(
                f"the records of {self.called(number)} of {self.title} are not dicts of named fields, but "
                f"{type(spec).__name__ if not hasattr(spec, 'shape') else 'single arrays'}; name the sources, "
                "names=['image', 'text'], so that each record is below its source's name"
            )
        given = self.config.rename.get(str(number), {})
        if unknown := [name for name in given if name not in spec]:
            raise SpecError(
                f"rename names the field {unknown[0]!r}, which {self.called(number)} of {self.title} does not have (fields: "
                f"{', '.join(map(str, spec))})"
            )
        prefix = self.config.prefix[number] if self.config.prefix is not None else ""
        new = {name: given.get(name, f"{prefix}{name}") for name in spec}
        if twice := [name for name in new.values() if list(new.values()).count(name) > 1]:
            raise SpecError(
                f"{self.called(number)} of {self.title} would have two fields {twice[0]!r}; rename one of them"
            )
        return new


@dataclass(frozen=True)
class ZippedFields:
    """The fields of the sources in the view. Hashable.

    ``places`` has for each source the name that its record is below, or (its field, the field of the view) for each field.
    """

    places: tuple[tuple[str | None, tuple[tuple[str, str], ...] | None], ...]

    def joined(self, records: Sequence[Any]) -> Any:
        """Return records, batches, specs or host fields of the sources side by side; fields that one lacks are left out."""
        fields: dict[str, Any] = {}
        for record, (below, renamed) in zip(records, self.places, strict=True):
            if below is not None:
                if not isinstance(record, Mapping) or record:
                    fields[below] = record
                continue
            fields |= {new: record[name] for name, new in renamed or () if name in record}
        return fields

    def source_of(self, field: str) -> tuple[int | None, str]:
        """Return (number of the source, dotted name in it) of a field; no number if there is no such field."""
        first, *inner = split_name(field)
        for number, (below, renamed) in enumerate(self.places):
            if below == first:
                return number, dotted_name(inner) if inner else "record"
            for name, new in renamed or ():
                if new == first:
                    return number, dotted_name([name, *inner])
        return None, field


@dataclass(frozen=True)
class ReadsFields:
    """Reads every source at the same indices in compiled code, and puts the fields side by side. Hashable."""

    fields: ZippedFields

    def __call__(self, reads: Reads, indices: jax.Array, arguments: Any) -> Batch:  # noqa: ARG002 - as a `Join` is called
        """Return the records at traced ``indices``."""
        return self.fields.joined([read(indices) for read in reads])
