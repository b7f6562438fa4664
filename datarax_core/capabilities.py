"""What a source can do, and how its records are reached."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Access: TypeAlias = Literal["device", "host", "stream"]
"""By compiled code, by the host at concrete indices, or forward only."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a source can do, for whoever has to choose: an overview of `access`, ``len()`` and resuming."""

    random_access: bool
    batched_reads: bool
    traceable: bool
    resumable: bool
    sized: bool
