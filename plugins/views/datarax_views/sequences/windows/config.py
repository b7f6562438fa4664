"""The config of a view of windows."""

from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from datarax_core.config import (
    NOT_NULL,
    Count,
    Flag,
    Name,
    NonNegative,
    having,
    never,
    only_if,
)
from datarax_core.registry import ViewConfig
from datarax_views.sequences.options import FieldNames, Padding

from .plan import Cut, Remainder

_PADS: Final = having(remainder={"const": "pad"})
_SHIFTS: Final = having(shift={"minimum": 1})


class WindowViewConfig(ViewConfig):
    """Config of a `WindowView`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "window",
                    "length": 1024,
                    "shift": 1,
                    "source": {"type": "memory", "path": "tokens", "shuffle": True},
                }
            ]
        }
    )

    type: Literal["window"] = "window"
    length: Annotated[Count, Field(lt=2**31)] = Field(description="The elements of a window.")
    stride: Count | None = Field(
        default=None, description="Elements from the beginning of a window to that of the next; null is the length."
    )
    field: Name | FieldNames | None = Field(
        default=None,
        json_schema_extra={"uniqueItems": True},
        description="The field that is cut, or several of one length; null is all that vary in length, or all if none does.",
    )
    inside: Flag | None = Field(
        default=None,
        description="Whether windows are cut inside each record, or of records that follow one another; null cuts inside "
        "records whose fields vary in length.",
    )
    cross: Flag = Field(
        default=False,
        description="Whether windows go on from record to record: the values of all records are one sequence.",
    )
    shift: Annotated[NonNegative, Field(lt=2**31)] = Field(
        default=0, description="Elements by which targets come after inputs, 1 for the next token; 0 makes no targets."
    )
    target_field: Name | None = Field(
        default=None, description="The new field of targets, with a shift; null is 'targets'."
    )
    target_of: Name | None = Field(
        default=None, description="The field that targets are taken of, with a shift, where several fields are cut."
    )
    remainder: Remainder = Field(
        default="drop",
        description="What becomes of an end that a window does not fit in: drop leaves it out, pad completes the window, "
        "overlap begins it earlier, so that it ends with the sequence.",
    )
    pad_value: Padding | dict[Name, Padding] | None = Field(
        default=None, description="What completes a window, with pad; a mapping has one for each field; null is 0."
    )
    mask_field: Name | None = Field(
        default=None,
        description="The new field, with pad, that is false where an element, or its target, is padding; null is 'mask'.",
    )
    too_short: Literal["refuse", "drop"] | None = Field(
        default=None,
        description="What becomes of a record too short for a window; null refuses it.",
    )
    length_field: Name | None = Field(
        default=None,
        description="A field that holds the length of each record, so that none is read to know where windows are.",
    )

    schema_rules: ClassVar = (
        *ViewConfig.schema_rules,
        only_if(_SHIFTS, target_field=NOT_NULL),
        only_if(_SHIFTS, target_of=NOT_NULL),
        only_if(_PADS, pad_value=NOT_NULL),
        only_if(_PADS, mask_field=NOT_NULL),
        never(inside={"const": False}, cross={"const": True}),
        never(inside={"const": False}, too_short=NOT_NULL),
        never(inside={"const": False}, length_field=NOT_NULL),
        never(cross={"const": True}, too_short=NOT_NULL),
    )

    @model_validator(mode="after")
    def _options_have_a_use(self) -> Self:
        useless: dict[str, tuple[Any, ...]] = {
            "shift": ("target_field", "target_of") if not self.shift else (),
            "remainder='pad'": ("pad_value", "mask_field") if self.remainder != "pad" else (),
        }
        for needed, names in useless.items():
            if given := [name for name in names if getattr(self, name) is not None]:
                raise ValueError(f"{given[0]} has no use without {needed}; leave it out")
        if self.inside is False and self.cross:
            raise ValueError(
                "cross goes on from record to record inside of records, and inside is False; leave out one"
            )
        if self.inside is False:
            for name in ("too_short", "length_field"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is of windows inside records, and inside is False; leave out one of them")
        if self.cross and self.too_short is not None:
            raise ValueError(
                "too_short is of records that are cut one by one, and cross goes on to the next; leave it out"
            )
        return self

    def cut(self) -> Cut:
        """Return the way in which windows are cut."""
        return Cut(self.length, self.stride or self.length, self.shift, self.remainder)
