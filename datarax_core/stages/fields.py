"""Stages that choose and name fields: `rename` and `select`; and fields of a batch by dotted name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import jax
from flax import nnx
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from datarax_core.config.base import Name
from datarax_core.errors import StageError, did_you_mean
from datarax_core.records.spec import Batch, ElementSpec, fits_device, named_fields, split_host_fields
from datarax_core.registry.stages import Stage


def field_of(spec: ElementSpec, name: str, option: str = "field") -> jax.ShapeDtypeStruct:
    """The field of a spec that is called ``name``; for stages that have one in ``option``, when they are built.

    Raises:
        StageError: There is none; says which is meant perhaps. Or it rides beside the batch, where no stage is called with it.
    """
    fields = named_fields(spec)
    if name not in fields:
        raise no_such_field(spec, name, (option,))
    struct: jax.ShapeDtypeStruct = fields[name]
    if not fits_device(struct.dtype):
        raise StageError(
            f"field {name!r} is {struct.dtype}, which rides beside the batch: no device has it, and no stage is called with it",
            (option,),
        )
    return struct


def no_such_field(batch: Batch, name: str, option: tuple[int | str, ...]) -> StageError:
    """The error that a batch, or spec, has no field ``name``, or two of them."""
    names = list(named_fields(batch))
    if inner := [other for other in names if other.startswith(f"{name}.")]:
        return StageError(f"{name!r} is a dict of fields; name one of them, such as {inner[0]!r}", option)
    if name in names:
        return StageError(f"two fields are called {name!r}, one by a dot in its key; rename it in the source", option)
    hint = did_you_mean(name, names)
    return StageError(f"the records have no field {name!r}{hint} (fields: {', '.join(names) or 'none'})", option)


@dataclass(frozen=True, slots=True, kw_only=True)
class WithBeside:
    """``stage`` for the batch, and ``aside`` for the dict of what rides beside it."""

    name: str
    stage: Callable[[Batch], Batch]
    aside: Callable[[Any], dict[str, Any]]

    def __call__(self, batch: Batch) -> Batch:
        """The batch after the stage."""
        return self.stage(batch)

    def host_fields(self, fields: Any) -> dict[str, Any]:
        """What rides beside it then."""
        return self.aside(fields)


def unchanged(batch: Batch) -> Batch:
    """The batch."""
    return batch


def nothing(batch: Batch) -> Batch:  # noqa: ARG001 - a stage
    """A batch without fields."""
    return {}


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


NewName = Annotated[str, StringConstraints(pattern=r"^[^.]+(\.[^.]+)*$")]
"""A name with text on both sides of each dot."""


def _names_differ(fields: dict[str, str]) -> dict[str, str]:
    new = list(fields.values())
    for old, name in fields.items():
        if old == name:
            raise ValueError(f"{old!r} is renamed to what it is called already; leave it out")
        if new.count(name) > 1:
            raise ValueError(f"two fields are renamed to {name!r}; give each a name of its own")
    return fields


class Rename(Stage):
    """Fields under other names; the others as they are. All at once, so that two can change places.

    A dot leads into a nested dict, in the old and in the new name. Fields that ride beside the batch (text, objects) are
    renamed as the others are.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "rename", "fields": {"img": "image"}}]})

    type: Literal["rename"] = "rename"
    fields: Annotated[dict[Name, NewName], AfterValidator(_names_differ)] = Field(
        min_length=1, description="The new name of each field that gets one."
    )

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """The stage in two parts, for the batch and for what rides beside it."""
        self(spec)
        held, host_fields = split_host_fields(spec)
        return WithBeside(name=self.type, stage=self._for(held), aside=self._for(host_fields)) if host_fields else self

    def _for(self, part: Batch) -> Callable[..., Batch]:
        """The stage for batches that have these of the fields."""
        names = {old: new for old, new in self.fields.items() if has(part, old)}
        return self.model_copy(update={"fields": names}) if names else unchanged

    def __call__(self, batch: Batch) -> dict[Any, Any]:
        """The batch, its fields renamed."""
        paths = {old: path_of(batch, old, ("fields", old)) for old in self.fields}
        values = {old: at(batch, path) for old, path in paths.items()}
        for old, path in paths.items():
            if any(path != other and path[: len(other)] == other for other in paths.values()):
                raise StageError(
                    f"{old!r} is in a dict that is renamed as a whole; rename one of them", ("fields", old)
                )
            batch = without(batch, path)
        for old, new in self.fields.items():
            batch = put(batch, new, values[old], ("fields", old))
        renamed: dict[Any, Any] = batch
        return renamed


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise ValueError(f"the field {twice[0]!r} is named twice; name it once")
    return names


class Select(Stage):
    """The fields that are named, and no others; of a dict of fields, all that are in it.

    Fields that ride beside the batch (text, objects) are kept or left out as the others are. A pipeline that leaves them all
    out can be compiled whole.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "select", "fields": ["image", "label"]}]})

    type: Literal["select"] = "select"
    fields: Annotated[tuple[Name, ...], AfterValidator(_each_once)] = Field(
        min_length=1, json_schema_extra={"uniqueItems": True}, description="The fields to keep, by dotted name."
    )

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """The stage in two parts, for the batch and for what rides beside it."""
        self(spec)
        held, host_fields = split_host_fields(spec)
        return WithBeside(name=self.type, stage=self._for(held), aside=self._for(host_fields)) if host_fields else self

    def _for(self, part: Batch) -> Callable[..., Batch]:
        """The stage for batches that have these of the fields."""
        names = tuple(name for name in self.fields if has(part, name))
        return self.model_copy(update={"fields": names}) if names else nothing

    def __call__(self, batch: Batch) -> dict[Any, Any]:
        """The batch of these fields alone."""
        selected: dict[Any, Any] = {}
        for number, name in enumerate(self.fields):
            path = path_of(batch, name, ("fields", number))
            selected = put_at(selected, path, at(batch, path))
        return selected


def put_at(batch: dict[Any, Any], path: tuple[Any, ...], value: Any) -> dict[Any, Any]:
    """The batch with a value there; what was selected before with all that it holds, or a part of it, stays one."""
    key, *inner = path
    return {**batch, key: put_at(batch.get(key, {}), tuple(inner), value) if inner else value}
