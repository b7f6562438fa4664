"""Weights in a config: one share for each child, or stages of them that begin at positions."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Final, Self, TypeGuard

from pydantic import ConfigDict, Field, TypeAdapter, ValidatorFunctionWrapHandler, WithJsonSchema, model_validator

from datarax_core.config import NOT_NULL, FrozenConfig, NonNegative, having, never

from .shares import LARGEST, normalised

Real = Annotated[float, Field(strict=True)]

SHARE: Final = {"type": "number", "minimum": 0}
NOT_ALL_ZERO: Final = {
    "contains": {"exclusiveMinimum": 0},
    "if": {"type": "object"},
    "then": {"not": {"additionalProperties": {"const": 0}}},
}
SHARES_SCHEMA: Final = {
    "anyOf": [
        {"type": "array", "items": SHARE},
        {"type": "object", "propertyNames": {"minLength": 1}, "additionalProperties": SHARE},
    ],
    **NOT_ALL_ZERO,
}
_Shares = Annotated[tuple[Real, ...] | None, WithJsonSchema({"anyOf": [{"type": "null"}, SHARES_SCHEMA]})]


class WeightStage(FrozenConfig):
    """A stage of weights: constant ones from a position on, or a ramp that ends at the position ``to``.

    Positions count the records of the mixture.
    """

    model_config = ConfigDict(populate_by_name=True)

    start: NonNegative = Field(alias="from", description="The position at which the stage begins.")
    weights: _Shares = Field(default=None, description="A share for each child, a list or by name, from here on.")
    ramp: _Shares = Field(
        default=None, description="Shares that are reached at `to`, on a straight line from those before; they stay."
    )
    end: NonNegative | None = Field(default=None, alias="to", description="The position at which a ramp ends.")

    schema_rules: ClassVar = (
        {"anyOf": [having(weights=NOT_NULL), having(ramp=NOT_NULL)]},
        never(weights=NOT_NULL, ramp=NOT_NULL),
        never(weights=NOT_NULL, to=NOT_NULL),
        {"if": having(ramp=NOT_NULL), "then": having(to=NOT_NULL)},
    )

    @model_validator(mode="after")
    def _require_one_kind(self) -> Self:
        if (self.weights is None) == (self.ramp is None):
            both = "both weights and a ramp" if self.ramp is not None else "neither weights nor a ramp"
            raise ValueError(f"the stage from {self.start} has {both}; give one of them")
        if self.ramp is not None and self.end is None:
            raise ValueError(
                f"the ramp from {self.start} has no end; add `to`, the position at which its weights are reached"
            )
        if self.weights is not None and self.end is not None:
            raise ValueError(
                f"the stage from {self.start} has weights that hold from there on, and `to`={self.end}, the end of a ramp; "
                "write ramp in place of weights, or leave `to` out"
            )
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"the ramp from {self.start} to {self.end} ends before it begins; let `to` be larger")
        return self

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares that hold from the stage on, or from its end on if it is a ramp."""
        return self.weights or self.ramp or ()


Weights = tuple[float, ...] | tuple[WeightStage, ...]

_SHARES: Final = TypeAdapter(tuple[Real, ...])
_STAGES: Final = TypeAdapter(tuple[WeightStage, ...])


def shares_or_stages(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:  # noqa: ARG001 - pydantic's signature
    """Return the weights of a config: stages if the first entry is a mapping, else a share for each child."""
    if value is None:
        return None
    return (_STAGES if are_stages(value) else _SHARES).validate_python(value)


def are_stages(value: Any) -> TypeGuard[Sequence[Any]]:
    """Return whether weights are stages."""
    return isinstance(value, Sequence) and bool(value) and isinstance(value[0], Mapping | WeightStage)


def names_in(weights: Any) -> tuple[Any, ...] | None:
    """Return the names that weights are given by: the keys of a mapping, or of the first in stages; None if there is none."""
    if isinstance(weights, Mapping):
        return tuple(weights)
    if not are_stages(weights):
        return None
    given = (stage.get(field) for stage in weights if isinstance(stage, Mapping) for field in ("weights", "ramp"))
    return next((tuple(shares) for shares in given if isinstance(shares, Mapping)), None)


def in_order(weights: Any, ordered: Callable[[str, Mapping[Any, Any]], tuple[Any, ...]]) -> Any:
    """Return weights with each mapping by name, of any stage, as ``ordered(its place, mapping)``."""
    if isinstance(weights, Mapping):
        return ordered("weights", weights)
    if not are_stages(weights):
        return weights
    stages: list[Any] = []
    for number, stage in enumerate(weights):
        if isinstance(stage, Mapping):
            stage = {  # noqa: PLW2901 - the same stage, with its shares in order
                field: ordered(f"{field} of stage {number}", value)
                if field in ("weights", "ramp") and isinstance(value, Mapping)
                else value
                for field, value in stage.items()
            }
        stages.append(stage)
    return stages


def checked_weights(weights: Weights, count: int | None) -> Weights:
    """Return weights with all shares normalised.

    Args:
        weights: A share for each child, or stages.
        count: Number of children; None if unknown.

    Raises:
        ValueError: Shares that cannot be served, another number of them, or stages that are not one after another.
    """
    if not are_stages(weights):
        return _checked_shares(weights, count, "weights", "weight")  # type: ignore[arg-type]  # by the check before
    stages: tuple[WeightStage, ...] = weights  # type: ignore[assignment]
    if stages[0].ramp is not None:
        raise ValueError(
            "weights begin with a ramp, which has no weights to begin from; let the first stage be "
            "{from: 0, weights: ...}"
        )
    if stages[0].start:
        raise ValueError(
            f"the first stage of weights begins at {stages[0].start}, and the mixture at 0; begin with {{from: 0, ...}}"
        )
    for number, (before, after) in enumerate(pairwise(stages), 1):
        if after.start < (before.end or before.start + 1):
            ends = f"ends at {before.end}" if before.end else f"begins at {before.start}"
            raise ValueError(
                f"weights go back: stage {number} begins at {after.start}, and the one before {ends}; give stages in the "
                "order of their positions"
            )
    of_first = count or len(stages[0].shares)
    return tuple(_checked_stage(stage, number, of_first) for number, stage in enumerate(stages))


def _checked_stage(stage: WeightStage, number: int, count: int) -> WeightStage:
    field = "weights" if stage.ramp is None else "ramp"
    shares = _checked_shares(stage.shares, count, f"weights of stage {number}", f"in stage {number}, weight")
    return stage.model_copy(update={field: shares})


def _checked_shares(weights: tuple[float, ...], count: int | None, title: str, one: str) -> tuple[float, ...]:
    if count is not None and len(weights) != count:
        raise ValueError(f"{title} has {len(weights)} entries for {count} children; give each child one")
    for number, weight in enumerate(weights):
        if not math.isfinite(weight) or weight < 0:
            raise ValueError(f"{one} {number} is {weight!r}; weights are finite numbers from 0")
    if math.isinf(sum(weights)):
        raise ValueError(
            f"{title} add up to more than a number of 64 bits holds, {weights!r:.200}; only their ratios count: divide them "
            "by the largest"
        )
    if not any(weights):
        raise ValueError(
            f"{title} are all zero, {weights!r}: nothing would be served; give one child a weight at least"
        )
    if sum(weight > 0 for weight in weights) > LARGEST:
        raise ValueError(f"{len(weights)} weights are more than the {LARGEST} that one schedule has room for")
    return normalised(weights)
