"""The pipeline: batches of a source's records, through stages, from any position.

The topmost package: it may import every other one but `testing` and ``_cli``.
"""

from .build import SourceBuilder, build_source
from .definition import BatchRule
from .pipeline import Pipeline

__all__ = [
    "BatchRule",
    "Pipeline",
    "SourceBuilder",
    "build_source",
]
