"""``select``: the fields that are named, and no others."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from flax import nnx
from pydantic import AfterValidator, ConfigDict, Field

from datarax_core.config import Name
from datarax_core.spec import Batch, ElementSpec, split_beside
from datarax_core.stages import Stage

from ._beside import WithBeside, nothing
from ._fields import at, has, path_of


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
        inside, beside = split_beside(spec)
        return WithBeside(name=self.type, inside=self._of(inside), outside=self._of(beside)) if beside else self

    def _of(self, part: Batch) -> Callable[..., Batch]:
        """The stage for a part of the records."""
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
