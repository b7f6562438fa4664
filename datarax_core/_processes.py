"""One pipeline on several processes: whether they agree on what it is, and which part of a stream each reads."""

import json
import zlib
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ._layout import Layout
from .source import DataSourceModule


def part_of(source: DataSourceModule, layout: Layout) -> tuple[DataSourceModule, tuple[int, int] | None]:
    """(the source that this process reads, its (part, num_parts)): a stream that can be split is; None if not."""
    if source.access != "stream" or layout.num_processes == 1 or (part := layout.part_here()) is None:
        return source, None
    split = source.process_part(*part)
    return (source, None) if split is None else (split, part)


def require_agreement(facts: dict[str, Any], layout: Layout) -> None:
    """Compare what the processes of a pipeline must have alike. A collective, if there are several.

    Raises:
        ValueError: Names each fact that differs, and its value here.
    """
    if layout.num_processes == 1 or layout.num_processes != jax.process_count():
        return
    texts = {name: json.dumps(fact, sort_keys=True, default=str) for name, fact in sorted(facts.items())}
    digests = np.array([zlib.crc32(text.encode()) for text in texts.values()], np.uint32)
    everywhere = np.asarray(multihost_utils.process_allgather(digests))
    differing = (everywhere != everywhere[0]).any(axis=0)
    if differing.any():
        listed = "; ".join(f"{name}: {text}" for (name, text), bad in zip(texts.items(), differing, strict=True) if bad)
        raise ValueError(
            f"the processes of this pipeline do not agree; process {jax.process_index()} has {listed}. Build it from the same "
            "config, data and seed, and restore it from the same state, on all of them"
        )
