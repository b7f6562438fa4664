"""The config of groups: the field by whose values records are grouped."""

from collections.abc import Collection
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field, StrictBool, StrictInt, StrictStr

from datarax_core.config import Name
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
