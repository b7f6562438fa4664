"""A mixture of records in files and in memory, by a config: several plugins together."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datarax_arrayrecord import write
from datarax_core import Pipeline

FILES, MEMORY = 40, 20  # records; those in memory are numbered from 1000
CONFIG = """
seed: 0
batch_size: 10
num_epochs: 2
source:
  type: mix
  weights: [0.7, 0.3]
  source_field: source
  sources:
    - {type: arrayrecord, paths: "data/train.array_record-*", shuffle: true}
    - {type: memory, path: digits.npz, shuffle: true}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "train.array_record", {"id": np.arange(FILES, dtype=np.int32)}, shards=3)
    np.savez(tmp_path / "digits.npz", id=np.arange(1000, 1000 + MEMORY, dtype=np.int32))
    path = tmp_path / "train.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def ids(batches: Any) -> list[int]:
    return [number for batch in batches for number in np.asarray(batch["id"]).tolist()]


def test_every_route_serves_one_sequence_in_exact_proportions(config: Path) -> None:
    whole = ids(Pipeline.from_config(config))
    assert len(whole) == 2 * (FILES + MEMORY)
    in_files = np.asarray(whole) < 1000
    for count in range(1, len(whole) + 1):
        assert abs(in_files[:count].sum() - 0.7 * count) < 1
    assert sorted(np.asarray(whole)[in_files][:FILES].tolist()) == list(range(FILES))
    stepped, scanned = Pipeline.from_config(config), Pipeline.from_config(config)
    assert ids(stepped.step() for _ in range(12)) == whole
    assert np.asarray(scanned.scan(lambda batch: batch["id"], length=12)).ravel().tolist() == whole
    assert ids(Pipeline.from_config({**_mapping(config), "workers": 2})) == whole


def test_it_goes_on_with_the_next_record(config: Path) -> None:
    loop = iter(pipeline := Pipeline.from_config(config))
    served = ids(islice(loop, 5))
    state = json.loads(json.dumps(pipeline.get_state()))
    resumed = Pipeline.from_config(config)
    resumed.set_state(state)
    assert served + ids(resumed) == ids(Pipeline.from_config(config))


def test_bad_records_of_a_child_are_found_and_stood_in_for(config: Path) -> None:
    file = config.parent / "data" / "train.array_record-00001-of-00003"
    content = bytearray(file.read_bytes())
    content[200] ^= 0xFF
    file.write_bytes(content)
    source = Pipeline.from_config(config).source
    errors = source.verify_records(np.arange(FILES + MEMORY)).errors
    assert [error.path for error in errors] == [str(file)]
    mapping = _mapping(config)
    mapping["source"]["sources"][0] |= {"on_error": "substitute", "quarantine": str(config.with_name("bad.jsonl"))}
    tolerant = Pipeline.from_config(mapping)
    assert len(ids(tolerant)) == 2 * (FILES + MEMORY)
    assert tolerant.stats()["records_substituted"] >= 1
    assert config.with_name("bad.jsonl").read_text(encoding="utf-8").count("\n") == 1


def _mapping(config: Path) -> dict[str, Any]:
    folder = config.parent
    children: list[dict[str, Any]] = [
        {"type": "arrayrecord", "paths": f"{folder}/data/train.array_record-*", "shuffle": True},
        {"type": "memory", "path": f"{folder}/digits.npz", "shuffle": True},
    ]
    source = {"type": "mix", "weights": [0.7, 0.3], "source_field": "source", "sources": children}
    return {"seed": 0, "batch_size": 10, "num_epochs": 2, "source": source}
