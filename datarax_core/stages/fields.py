"""Stages that choose, name and join the fields of a batch: `Select`, `SplitField`, `MergeFields` and `Rename`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from flax import nnx
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from datarax_core.config.base import Name
from datarax_core.errors import SpecError, StageError
from datarax_core.records.names import DOTTED_PATTERN
from datarax_core.records.spec import Batch, ElementSpec, split_host_fields
from datarax_core.registry.stages import Stage

from .field_paths import has_field, path_of, value_at, with_new_field, with_value_at, without_path


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise ValueError(f"the field {twice[0]!r} is named twice; name it once")
    return names


class Select(Stage):
    """Stage that keeps the named fields and drops all others; the name of a dict of fields keeps all fields in it.

    Host fields (text, objects, ragged columns) are kept or dropped by the same names. A pipeline that drops all of them can be
    compiled whole.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "select", "fields": ["image", "label"]}]})

    type: Literal["select"] = "select"
    fields: Annotated[tuple[Name, ...], AfterValidator(_each_once)] = Field(
        min_length=1, json_schema_extra={"uniqueItems": True}, description="The fields to keep, by dotted name."
    )

    on_host: ClassVar[Literal["either"]] = "either"

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage, in two parts if the records have host fields."""
        self(spec)
        return _in_two_parts(self, spec, self._for_fields_of)

    def build_on_host(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage itself, which is called with all columns on the host."""
        self(spec)
        return self

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec of the batch after the stage."""
        return self(spec)

    def _for_fields_of(self, part: Batch) -> Callable[..., Batch]:
        names = tuple(name for name in self.fields if has_field(part, name))
        return self.model_copy(update={"fields": names}) if names else empty_batch

    def before_narrowing(self, fields: Batch) -> dict[Any, Any]:
        """Return the named fields as stored; the others are never narrowed."""
        return self(fields)

    def __call__(self, batch: Batch) -> dict[Any, Any]:
        """Return the batch of the named fields alone."""
        return _selected(batch, self.fields)


@dataclass(frozen=True, slots=True)
class SplitField:
    """Node that keeps the named fields, in the order of their names here: `Select` for graphs, without a config.

    Each `SplitField` begins a branch of a graph; `MergeFields` joins branches. Host fields stay as they are, whether they are
    named or not, because no node is called with them.

    Args:
        fields: Names of fields, as in `Select`; a single name may be given as text.

    Raises:
        TypeError, ValueError: ``fields`` is no sequence of names, is empty, or has a name twice.
    """

    fields: Sequence[str]

    def __post_init__(self) -> None:
        fields = (self.fields,) if isinstance(self.fields, str) else self.fields
        if not isinstance(fields, Sequence) or not all(isinstance(name, str) for name in fields):
            raise TypeError(f"SplitField takes a list of field names, such as ['image', 'label'], not {self.fields!r}")
        if not fields:
            raise ValueError("SplitField was given no field, and would leave an empty batch; name one at least")
        object.__setattr__(self, "fields", _each_once(tuple(fields)))

    def before_narrowing(self, fields: Batch) -> dict[Any, Any]:
        """Return the named fields as stored; fields that no node uses are never narrowed."""
        return self(fields)

    def __call__(self, batch: Batch) -> dict[Any, Any]:
        """Return the batch of the named fields alone.

        Raises:
            StageError: The batch is no dict, or has no such field; the message lists the fields that it has.
        """
        return _selected(batch, self.fields)


def _selected(batch: Batch, names: Sequence[str]) -> dict[Any, Any]:
    selected: dict[Any, Any] = {}
    for number, name in enumerate(names):
        path = path_of(batch, name, ("fields", number))
        selected = with_value_at(selected, path, value_at(batch, path))
    return selected


@dataclass(frozen=True, slots=True)
class MergeFields:
    """Node that joins the fields of several batches in one; a graph needs an edge to the node from each of them."""

    def before_narrowing(self, *fields: Batch) -> dict[str, Any]:
        """Return the fields as stored, joined."""
        return self(*fields)

    def __call__(self, *batches: Batch) -> dict[str, Any]:
        """Return one batch with the fields of all batches, in their order.

        Raises:
            SpecError: A batch is no dict, or two batches have the same field. The message gives the number of the batch,
                counted in the order of the edges into the node.
        """
        merged: dict[str, Any] = {}
        number_of: dict[str, int] = {}
        for number, batch in enumerate(batches):
            if not isinstance(batch, Mapping):
                raise SpecError(
                    f"MergeFields needs input {number} to be a dict of named fields, not {type(batch).__name__}"
                )
            if taken := [name for name in batch if name in merged]:
                raise SpecError(
                    f"MergeFields: input {number} has the field {taken[0]!r}, and so has input {number_of[taken[0]]}; leave it "
                    "out of one of them with SplitField, or give it another name"
                )
            merged.update(batch)
            number_of.update(dict.fromkeys(batch, number))
        return merged


NewName = Annotated[str, StringConstraints(pattern=DOTTED_PATTERN)]
"""A dotted name: text on both sides of each dot that leads into a dict."""


def _names_differ(fields: dict[str, str]) -> dict[str, str]:
    new = list(fields.values())
    for old, name in fields.items():
        if old == name:
            raise ValueError(f"{old!r} is renamed to what it is called already; leave it out")
        if new.count(name) > 1:
            raise ValueError(f"two fields are renamed to {name!r}; give each a name of its own")
    return fields


class Rename(Stage):
    r"""Stage that gives fields other names, all at once, so that two fields can change places; other fields stay.

    A dot leads into a nested dict, in the old and in the new name; ``\.`` is a dot inside a name. Host fields (text, bytes,
    objects) are renamed by the same rule.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "rename", "fields": {"img": "image"}}]})

    type: Literal["rename"] = "rename"
    fields: Annotated[dict[Name, NewName], AfterValidator(_names_differ)] = Field(
        min_length=1, description="The new name of each field that gets one."
    )

    on_host: ClassVar[Literal["either"]] = "either"

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage, in two parts if the records have host fields."""
        self(spec)
        return _in_two_parts(self, spec, self._for_fields_of)

    def build_on_host(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage itself, which is called with all columns on the host."""
        self(spec)
        return self

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec of the batch after the stage."""
        return self(spec)

    def _for_fields_of(self, part: Batch) -> Callable[..., Batch]:
        names = {old: new for old, new in self.fields.items() if has_field(part, old)}
        return self.model_copy(update={"fields": names}) if names else unchanged

    def before_narrowing(self, fields: Batch) -> dict[Any, Any]:
        """Return the fields as stored, renamed."""
        return self(fields)

    def __call__(self, batch: Batch) -> dict[Any, Any]:
        """Return the batch with its fields renamed."""
        paths = {old: path_of(batch, old, ("fields", old)) for old in self.fields}
        values = {old: value_at(batch, path) for old, path in paths.items()}
        for old, path in paths.items():
            if any(path != other and path[: len(other)] == other for other in paths.values()):
                raise StageError(
                    f"{old!r} is in a dict that is renamed as a whole; rename one of them", ("fields", old)
                )
            batch = without_path(batch, path)
        for old, new in self.fields.items():
            batch = with_new_field(batch, new, values[old], ("fields", old))
        renamed: dict[Any, Any] = batch
        return renamed


@dataclass(frozen=True, slots=True, kw_only=True)
class StageWithHostFields:
    """Stage in two parts: ``stage`` runs on the batch in compiled code, ``on_host_fields`` on the dict of host fields."""

    name: str
    stage: Callable[[Batch], Batch]
    on_host_fields: Callable[[Any], dict[str, Any]]

    def before_narrowing(self, fields: Batch) -> Batch:
        """Return the fields as stored after the stage, which leaves fields out or moves them."""
        return self.stage(fields)

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch after the stage."""
        return self.stage(batch)

    def host_fields(self, fields: Any) -> dict[str, Any]:
        """Return the host fields after the stage."""
        return self.on_host_fields(fields)


def unchanged(batch: Batch) -> Batch:
    """Return the batch as it is."""
    return batch


def empty_batch(batch: Batch) -> Batch:  # noqa: ARG001 - a stage
    """Return a batch without fields."""
    return {}


def _in_two_parts(
    stage: Stage, spec: ElementSpec, for_fields_of: Callable[[ElementSpec], Callable[..., Batch]]
) -> Callable[..., Batch]:
    """Return ``stage`` itself for a spec without host fields, else its device part and its host part as one stage."""
    on_device, on_host = split_host_fields(spec)
    if not on_host:
        return stage
    return StageWithHostFields(name=stage.type, stage=for_fields_of(on_device), on_host_fields=for_fields_of(on_host))
