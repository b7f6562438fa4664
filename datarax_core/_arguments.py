"""What a pipeline is built of, checked before anything is built."""

from collections.abc import Sequence
from typing import Any

from ._modules import require_hash
from .source import DataSourceModule


def require_source(source: Any) -> None:
    """Refuse what is no source."""
    if not isinstance(source, DataSourceModule):
        raise TypeError(
            f"source is a DataSourceModule, such as MemorySource(config, data), not {type(source).__name__}"
        )


def require_stages(stages: Any) -> None:
    """Refuse what is no list of callables, or cannot be a part of what a compiled program is found by."""
    if callable(stages) or not isinstance(stages, Sequence):
        raise TypeError(f"stages is a list of callables, not {type(stages).__name__}")
    for number, stage in enumerate(stages):
        if not callable(stage):
            raise TypeError(f"stage {number} is not callable: {stage!r}; a stage takes a batch and returns one")
        require_hash(stage, f"stage {number}")
