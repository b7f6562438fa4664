"""A mixture with a stream that version 0.1.0 pickled, in old_stream_mixture.json, with the records it served next.

`python tests/integration/importable/old_stream_mixture.py FILE` was run once, at the commit before core was divided into
packages, and wrote that file.
"""

import base64
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx


def stream_class() -> type:
    from datarax_core import StreamingSourceBase  # noqa: PLC0415

    class Counting(StreamingSourceBase):
        """0 to 6 in each epoch; a stream without a length."""

        def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
            return {"x": jax.ShapeDtypeStruct((), np.int32)}

        def records_from(self, epoch: int, start: int) -> Iterator[dict[str, np.ndarray]]:
            del epoch
            return ({"x": np.asarray(number, np.int32)} for number in range(start, 7))

    Counting.__qualname__ = "Counting"
    return Counting


Counting = stream_class()


def served(mixture: Any) -> list[int]:
    return np.asarray(mixture.get_batch(100)["x"]).tolist()


def subject() -> Any:
    """Return the mixture in the middle of an epoch, after a batch of 5 records; it ends with the stream."""
    from datarax_core import StructuralConfig  # noqa: PLC0415
    from datarax_memory import MemorySource, MemorySourceConfig  # noqa: PLC0415
    from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode  # noqa: PLC0415

    memory = MemorySource(
        MemorySourceConfig(shuffle=True), {"x": np.arange(100, 120, dtype=np.int32)}, rngs=nnx.Rngs(1)
    )
    config = MixDataSourcesConfig(num_sources=2, weights=(0.5, 0.5), stop="first_exhausted")
    mixture = MixDataSourcesNode(config, [Counting(StructuralConfig()), memory], rngs=nnx.Rngs(0))
    mixture.get_batch(5)
    return mixture


if __name__ == "__main__":
    sys.modules["old_stream_mixture"] = sys.modules["__main__"]
    Counting.__module__ = "old_stream_mixture"
    pickled = pickle.dumps(subject(), protocol=4)
    entry = {"pickle": base64.b64encode(pickled).decode(), "served": served(pickle.loads(pickled))}  # noqa: S301
    Path(sys.argv[1]).write_text(json.dumps(entry, indent=1) + "\n")
