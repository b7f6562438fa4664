"""Objects of stores: what a store says of one."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class ObjectFacts(NamedTuple):
    """What a store says of an object; the fields are those of `Stamp`."""

    size: int
    changed_ns: int
    inode: int
    etag: str
    version: str


def facts_of(address: str, options: Mapping[str, Any] | None = None) -> ObjectFacts:
    """Return what the store says of an object now. Costs a request; listings that fsspec keeps are not asked.

    Raises:
        FileNotFoundError, PermissionError, ConnectionError, TimeoutError: As `ranges`.
    """
    raise NotImplementedError
