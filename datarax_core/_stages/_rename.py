"""``rename``: fields under other names."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from flax import nnx
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from datarax_core.config import Name
from datarax_core.errors import StageError
from datarax_core.spec import Batch, ElementSpec, split_beside
from datarax_core.stages import Stage

from ._beside import WithBeside, unchanged
from ._fields import at, has, path_of, put, without

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
        inside, beside = split_beside(spec)
        for old, new in self.fields.items():
            if old in beside and "." in new:
                raise StageError(
                    f"{old!r} rides beside the batch, at the top of it; {new!r} would be inside of {new.partition('.')[0]!r}",
                    ("fields", old),
                )
        return WithBeside(name=self.type, inside=self._of(inside), outside=self._of(beside)) if beside else self

    def _of(self, part: Batch) -> Callable[..., Batch]:
        """The stage for a part of the records."""
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
