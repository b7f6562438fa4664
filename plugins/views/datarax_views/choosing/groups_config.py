"""The config of groups: the field by whose values records are grouped."""

from collections.abc import Collection
from typing import ClassVar, Literal, Self

from pydantic import ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

from datarax_core.config import NOT_NULL, Name, having, only_if
from datarax_core.registry import ViewConfig


class GroupsViewConfig(ViewConfig):
    """Config of a `GroupsView`; with ``group``, of the records of one group."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "groups", "by": "label", "group": 3, "source": {"type": "memory", "path": "digits.npz"}},
                {
                    "type": "mix",
                    "sources": {"type": "groups", "by": "label", "source": {"type": "memory", "path": "digits.npz"}},
                },
            ]
        }
    )

    may_differ: ClassVar[Collection[str]] = ("group",)  # the records of the group are in the fingerprint

    type: Literal["groups"] = "groups"
    by: Name = Field(description="A field of whole numbers, booleans or text; a group is all records of one value.")
    group: StrictBool | StrictInt | StrictStr | None = Field(
        default=None,
        description="The value whose records are served; without it, all are served as the source serves them.",
    )

    schema_rules: ClassVar = (*ViewConfig.schema_rules, only_if(having(group=NOT_NULL), shuffle=NOT_NULL))

    @model_validator(mode="after")
    def _orders_a_group_only(self) -> Self:
        if self.shuffle is not None and self.group is None:
            raise ValueError(
                "shuffle has no use without a group: all records, and the groups that a mixture takes, are served as their "
                "source serves its own; set shuffle there"
            )
        return self
