"""The pipeline: batches of a source's records, through stages, from any position.

The topmost package: it may import every other one but `testing` and ``_cli``.
"""

from datarax_core.routes.definition import BatchRule

from .build import SourceBuilder, build_source
from .pipeline import Pipeline

__all__ = [
    "BatchRule",
    "Pipeline",
    "SourceBuilder",
    "build_source",
]
