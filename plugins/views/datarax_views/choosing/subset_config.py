"""The config of a subset: a list of records, a slice, a named part of a split, or a fold."""

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from datarax_core.config import NOT_NULL, FrozenConfig, Integer, LocalFile, Name, NonNegative, having, only_if
from datarax_core.registry import ViewConfig

WAYS: Final = ("indices", "mask", "file", "slice", "split", "fold")
"""The fields that choose records; a config gives one of them."""

_PART: Final = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
_COUNT: Final = {"type": "integer", "minimum": 1}
_SHARES: Final = {
    "anyOf": [
        {"type": "object", "minProperties": 1, "propertyNames": {"minLength": 1}, "additionalProperties": share}
        for share in (_PART, _COUNT)
    ]
}
_BOUND: Final = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
_STEP: Final = {**_BOUND, "not": {"const": 0}}
_SLICE: Final = {"type": "array", "minItems": 1, "maxItems": 3, "prefixItems": [_BOUND, _BOUND, _STEP]}
_DRAWN: Final = {"anyOf": [having(split=NOT_NULL), having(fold=NOT_NULL)]}

Share = Annotated[Integer | Annotated[float, Field(strict=True)], Field()]
Seed = Annotated[NonNegative, Field(le=2**32 - 1)]


class Fold(FrozenConfig):
    """One fold of several: the records that are held out, or all others."""

    of: Integer = Field(ge=2, description="Number of folds.")
    held_out: NonNegative = Field(description="Which fold is held out, from 0.")
    keep: Literal["train", "test"] = Field(
        default="train", description="Serve the records of the other folds, or those of the fold that is held out."
    )

    @field_validator("held_out")
    @classmethod
    def _is_a_fold(cls, value: int, info: ValidationInfo) -> int:
        if value >= info.data.get("of", value + 1):
            raise ValueError(f"held_out={value} is out of range: of={info.data['of']} numbers folds from 0")
        return value


class SubsetViewConfig(ViewConfig):
    """Config of a `SubsetView`: exactly one of ``indices``, ``mask``, ``file``, ``slice``, ``split`` and ``fold``."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "subset", "slice": [0, 1000], "source": {"type": "memory", "path": "digits.npz"}},
                {
                    "type": "subset",
                    "split": {"train": 0.9, "test": 0.1},
                    "part": "train",
                    "seed": 0,
                    "stratify": "label",
                    "source": {"type": "memory", "path": "digits.npz"},
                },
            ]
        }
    )

    type: Literal["subset"] = "subset"
    indices: Annotated[tuple[NonNegative, ...], Field(min_length=1, json_schema_extra={"uniqueItems": True})] | None = (
        Field(
            default=None, description="Record indices of the source, in the sequence in which they are numbered anew."
        )
    )
    mask: LocalFile | None = Field(
        default=None, description="An .npy file with a boolean for each record, True for those of the subset."
    )
    file: LocalFile | None = Field(
        default=None,
        description="Record indices: an .npy file of integers or booleans, or a text file with one a line.",
    )
    slice: Annotated[tuple[Integer | None, ...], Field(min_length=1, max_length=3), WithJsonSchema(_SLICE)] | None = (
        Field(
            default=None,
            description="As Python's: [stop], [start, stop], or [start, stop, step], null for what is left out.",
        )
    )
    split: Annotated[dict[Name, Share], Field(min_length=1), WithJsonSchema(_SHARES)] | None = Field(
        default=None,
        description="Shares by name, as source.split() takes them: parts of one, such as 0.9, or numbers of records.",
    )
    part: Name | None = Field(default=None, validate_default=True, description="The part of the split to serve.")
    fold: Fold | None = Field(default=None, description="One fold of several: {of: 5, held_out: 0, keep: train}.")
    seed: Seed | None = Field(default=None, description="Selects how split and fold draw records; 0 if not given.")
    stratify: Name | None = Field(
        default=None, description="A field of classes, each of which is divided as the records are, by split or fold."
    )

    may_differ: ClassVar[Collection[str]] = (
        *WAYS,
        "part",
        "seed",
        "stratify",
    )  # the records that they choose are in the fingerprint

    schema_rules: ClassVar = (
        *ViewConfig.schema_rules,
        {"oneOf": [having(**{way: NOT_NULL}) for way in WAYS]},
        only_if(having(split=NOT_NULL), part=NOT_NULL),
        only_if(having(part=NOT_NULL), split=NOT_NULL),
        only_if(_DRAWN, seed=NOT_NULL),
        only_if(_DRAWN, stratify=NOT_NULL),
    )

    @field_validator("indices")
    @classmethod
    def _each_once(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and len(set(value)) < len(value):
            seen: set[int] = set()
            twice = next(index for index in value if index in seen or seen.add(index))  # type: ignore[func-returns-value]
            raise ValueError(
                f"record {twice} is named twice; a subset has each record once: leave one out, or draw with replacement by a "
                "view of type sample"
            )
        return value

    @field_validator("slice")
    @classmethod
    def _has_a_step(cls, value: tuple[int | None, ...] | None) -> tuple[int | None, ...] | None:
        if value is not None and value[2:] == (0,):
            raise ValueError("the step of a slice is not 0; leave it out for 1")
        return value

    @field_validator("split")
    @classmethod
    def _are_shares(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        shares: Mapping[str, float] = value or {}
        if len({isinstance(share, int) for share in shares.values()}) > 1:
            raise ValueError(
                "shares are all parts of one, such as 0.9, or all numbers of records, not both: "
                + ", ".join(f"{name}: {share}" for name, share in shares.items())
            )
        for name, share in shares.items():
            if isinstance(share, int) and share < 1:
                raise ValueError(f"{name}: {share} is out of range: a number of records is at least 1")
            if isinstance(share, float) and not 0 < share <= 1:
                raise ValueError(f"{name}: {share} is out of range: a part of one is more than 0, at most 1")
        return value

    @field_validator("part")
    @classmethod
    def _is_a_part(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "split" not in info.data:
            return value
        split = info.data["split"]
        if value is None and split is not None:
            raise ValueError(f"split needs the part to serve: one of {', '.join(split)}")
        if value is not None and split is None:
            raise ValueError(
                f"part={value!r} names a part of a split, and no split is given: split: {{train: 0.9, ...}}"
            )
        if value is not None and value not in split:
            raise ValueError(f"part={value!r} is no part of the split, which has {', '.join(split)}")
        return value

    @model_validator(mode="after")
    def _in_one_way(self) -> Self:
        given = [way for way in WAYS if getattr(self, way) is not None]
        if not given:
            raise ValueError(f"a subset needs one of {', '.join(WAYS)}, which say the records it has")
        if len(given) > 1:
            raise ValueError(f"{given[0]} and {given[1]} exclude each other: each says the records of the subset")
        if given[0] not in ("split", "fold"):
            for option in ("seed", "stratify"):
                if getattr(self, option) is not None:
                    raise ValueError(f"{option} has no use with {given[0]}; it is for split and fold")
        return self

    @property
    def way(self) -> str:
        """The field that says the records."""
        return next(way for way in WAYS if getattr(self, way) is not None)
