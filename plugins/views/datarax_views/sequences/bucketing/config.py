"""Config of a view of buckets."""

from itertools import pairwise
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from datarax_core.config import NOT_NULL, Count, Flag, Name, having, never, only_if
from datarax_core.registry import ViewConfig
from datarax_views.sequences.options import FieldNames, Padding

from .planned import Settings

MULTIPLE_OF: Final = 8
"""What bounds that are found are multiples of, unless the config says otherwise."""


def _ascending(bounds: tuple[int, ...]) -> tuple[int, ...]:
    for one, two in pairwise(bounds):
        if one == two:
            raise ValueError(f"the bound {one} is given twice; give it once")
        if one > two:
            raise ValueError(f"bounds rise, and {two} comes after {one}; sort them")
    return bounds


_OF_PADDING: Final = ("pad_value", "side", "mask_field", "lengths_as")


class BucketViewConfig(ViewConfig):
    """Config of a `BucketView`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "bucket",
                    "field": "tokens",
                    "bounds": [64, 128, 256, 512],
                    "tokens": 16384,
                    "mask_field": "is_token",
                    "source": {"type": "arrayrecord", "paths": "corpus/*.array_record", "shuffle": True},
                }
            ]
        }
    )

    decides_batches: ClassVar[bool] = True

    type: Literal["bucket"] = "bucket"
    field: Name | FieldNames = Field(
        json_schema_extra={"uniqueItems": True},
        description="The field of varying length, or several: the longest of a record decides its bucket.",
    )
    bounds: Annotated[tuple[Count, ...], Field(min_length=1, max_length=4096), AfterValidator(_ascending)] | None = (
        Field(default=None, description="The lengths to which records are padded, ascending: a bucket for each.")
    )
    buckets: Annotated[Count, Field(le=4096)] | None = Field(
        default=None, description="In place of bounds: the most buckets, with the bounds that need the least padding."
    )
    multiple_of: Count | None = Field(
        default=None, description=f"What bounds that are found are multiples of; null is {MULTIPLE_OF}."
    )
    max_length: Count | None = Field(
        default=None, description="With buckets: the length from which on a record is too long; null is none."
    )
    batch_size: Annotated[Count, Field(lt=2**31)] | None = Field(default=None, description="The records of a batch.")
    tokens: Annotated[Count, Field(lt=2**40)] | None = Field(
        default=None,
        description="In place of batch_size: the values of a batch, padding included, so that a bucket has batches of tokens "
        "// bound records.",
    )
    batch_multiple_of: Count | None = Field(
        default=None, description="With tokens: what the records of a batch are a multiple of, for meshes; null is 1."
    )
    too_long: Literal["refuse", "truncate", "drop"] | None = Field(
        default=None,
        description="What becomes of a record that is longer than the last bound, or max_length; null refuses it. truncate "
        "keeps its first values, drop leaves the record out.",
    )
    remainder: Literal["keep", "drop"] = Field(
        default="keep",
        description="What becomes of the last batch of a bucket if it is short: it is kept, or its records are left out, which "
        "are others in each epoch of a shuffle.",
    )
    pad: Flag = Field(default=True, description="Whether records are padded; false leaves ragged columns.")
    pad_value: Padding | dict[Name, Padding] | None = Field(
        default=None,
        description="What stands where a record has ended; a mapping has one for each field, and null is 0.",
    )
    side: Literal["right", "left"] | None = Field(
        default=None, description="The side of a record on which values are added; null is right."
    )
    mask_field: Name | None = Field(
        default=None, description="The name of a new field, true for the values of a record, false for padding."
    )
    lengths_as: Name | None = Field(
        default=None, description="The name of a new int32 field for the length of each record, after cutting."
    )
    length_field: Name | None = Field(
        default=None, description="A field that holds the length of each record, so that none is read to plan."
    )

    schema_rules: ClassVar = (
        *ViewConfig.schema_rules,
        {"oneOf": [having(bounds=NOT_NULL), having(buckets=NOT_NULL)]},
        {"oneOf": [having(batch_size=NOT_NULL), having(tokens=NOT_NULL)]},
        only_if(having(buckets=NOT_NULL), multiple_of=NOT_NULL),
        only_if(having(buckets=NOT_NULL), max_length=NOT_NULL),
        only_if(having(tokens=NOT_NULL), batch_multiple_of=NOT_NULL),
        only_if({"anyOf": [having(bounds=NOT_NULL), having(max_length=NOT_NULL)]}, too_long=NOT_NULL),
        never(pad={"const": False}, pad_value=NOT_NULL),
        never(pad={"const": False}, side=NOT_NULL),
        never(pad={"const": False}, mask_field=NOT_NULL),
        never(pad={"const": False}, lengths_as=NOT_NULL),
        never(cacheable={"const": True}),
    )

    @model_validator(mode="after")
    def _options_have_a_use(self) -> Self:
        for one, other, what in (("bounds", "buckets", "buckets are"), ("batch_size", "tokens", "a batch is")):
            if (getattr(self, one) is None) == (getattr(self, other) is None):
                given = "neither is" if getattr(self, one) is None else "both are"
                raise ValueError(f"{what} given by `{one}` or by `{other}`, and {given} given")
        for name, needed in (("multiple_of", "buckets"), ("max_length", "buckets"), ("batch_multiple_of", "tokens")):
            if getattr(self, name) is not None and getattr(self, needed) is None:
                raise ValueError(f"{name} has no use without {needed}; leave it out")
        if self.too_long is not None and self.bounds is None and self.max_length is None:
            raise ValueError(
                "too_long has no use with buckets alone, which fit the longest record; set max_length, or leave it out"
            )
        unused = [name for name in _OF_PADDING if not self.pad and getattr(self, name) is not None]
        if unused:
            raise ValueError(f"{unused[0]} has no use with pad=False, which leaves records as they are; leave it out")
        return self

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        multiple = self.multiple_of or MULTIPLE_OF
        if self.max_length is not None and self.max_length % multiple:
            raise ValueError(
                f"max_length={self.max_length} is the last bound, and bounds are multiples of {multiple}; take "
                f"{-(-self.max_length // multiple) * multiple}, or set multiple_of"
            )
        if self.bounds is not None and not self.settings().size_of(self.bounds[-1]):
            records, last = self.batch_multiple_of or 1, self.bounds[-1]
            raise ValueError(
                f"tokens={self.tokens} are fewer than {records} x {last}, the last bound; give {last * records} at least, or "
                "smaller bounds"
            )
        if self.mask_field is not None and self.mask_field == self.lengths_as:
            raise ValueError(f"mask_field and lengths_as are both {self.mask_field!r}; give each a name of its own")
        if self.cacheable:
            raise ValueError(
                "cacheable=True has no use in buckets, which pad the records of their source anew; set it in the config of that"
            )
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that decide buckets and are padded."""
        return (self.field,) if isinstance(self.field, str) else self.field

    def settings(self) -> Settings:
        """Return what a plan depends on besides lengths."""
        return Settings(
            bounds=self.bounds,
            buckets=self.buckets or 1,
            multiple_of=self.multiple_of or MULTIPLE_OF,
            max_length=self.max_length,
            batch_size=self.batch_size,
            tokens=self.tokens,
            batch_multiple_of=self.batch_multiple_of or 1,
            too_long=self.too_long or "refuse",
            keep=self.remainder == "keep",
        )
