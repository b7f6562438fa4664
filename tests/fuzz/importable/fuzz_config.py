"""Config files in YAML, TOML and JSON, from which pipelines are built."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_format import Format, Served, change

from datarax_core import Pipeline

YAML = """\
# a mixture of two files
seed: 3
batch_size: 4
num_epochs: 2
pad_last: valid
source:
  type: mix
  sources:
    - {type: memory, path: x.npz, shuffle: true}
    - type: memory
      path: y.npz
      columns: {image: picture, label: kind}
  weights: [0.5, 1.5]
stages:
  - {type: cast, field: image, dtype: float32}
  - type: rescale
    field: image
    scale: 0.00392
  - {type: one_hot, field: label, classes: 10}
"""
TOML = """\
seed = 3
batch_size = 4
num_epochs = 2
drop_last = true
prefetch = 0

[source]
type = "memory"
path = "x.npz"
shuffle = true

[[stages]]
type = "rename"
fields = { image = "picture" }

[[stages]]
type = "cast"
field = "picture"
dtype = "float32"
"""
JSON: dict[str, Any] = {
    "seed": 3,
    "batch_size": 4,
    "num_epochs": None,
    "source": {"type": "memory", "path": "x.npz", "columns": ["image", "label"], "num_workers": 2, "shard_id": 1},
    "stages": [{"type": "select", "fields": ["image"]}, {"type": "cast", "field": "image", "dtype": "float32"}],
}


def make_data(folder: Path) -> None:
    image = np.arange(120, dtype=np.uint8).reshape(10, 4, 3)
    np.savez(folder / "x.npz", image=image, label=np.arange(10))
    np.savez(folder / "y.npz", picture=image, kind=np.arange(10))


def made(suffix: str, text: str) -> Format:
    """Return the format of configs of a suffix."""
    name = f"train{suffix}"

    def make(folder: Path) -> None:
        make_data(folder)
        (folder / name).write_text(text, encoding="utf-8")

    def read(folder: Path, _way: int) -> Served:
        pipeline = Pipeline.from_config(folder / name)
        pipeline.element_spec()
        pipeline.explain()
        return pipeline.get_state()

    return Format(make, read, lambda folder, number: change(folder / name, number), ways=1)


FORMATS: dict[str, Format] = {
    "config-yaml": made(".yaml", YAML),
    "config-toml": made(".toml", TOML),
    "config-json": made(".json", json.dumps(JSON, indent=1)),
}
