"""First-party names: the distribution of this project that owns a name, for each group of entry points."""

from collections.abc import Mapping
from typing import Final

SOURCES: Final[Mapping[str, str]] = {
    "arrayrecord": "datarax-arrayrecord",
    "memory": "datarax-memory",
    "mix": "datarax-mix",
    "tfds": "datarax-tfds",
    "tfds_eager": "datarax-tfds",
    "tfds_streaming": "datarax-tfds",
    "tfrecord": "datarax-tfds",
}

STAGES: Final[Mapping[str, str]] = dict.fromkeys(("cast", "one_hot", "rename", "rescale", "select"), "datarax-core")

DECODERS: Final[Mapping[str, str]] = dict.fromkeys(("array", "example", "msgpack", "npz", "raw"), "datarax-arrayrecord")

OWNERS: Final[Mapping[str, str]] = {**SOURCES, **STAGES, **DECODERS}
"""All first-party names, and their distributions, whether or not they are installed."""
