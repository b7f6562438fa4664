"""Smoke test: a prepared data set of ten numbers, read in an environment without TensorFlow."""

import json
from importlib.util import find_spec
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordWriter

from datarax_core import Pipeline

SPLIT = {
    "name": "train",
    "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    "numBytes": "140",
    "shardLengths": ["10"],
}
INFO = {
    "name": "tiny",
    "version": "1.0.0",
    "fileFormat": "array_record",
    "moduleName": "tensorflow_datasets.core.dataset_builders.adhoc_builder",
    "splits": [SPLIT],
}
SCALAR = {
    "pythonClassName": "tensorflow_datasets.core.features.scalar.Scalar",
    "tensor": {"dtype": "int64", "encoding": "none", "shape": {}},
}
FEATURES = {
    "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
    "featuresDict": {"features": {"x": SCALAR}},
}

assert find_spec("tensorflow") is None
folder = Path("tiny/1.0.0")
folder.mkdir(parents=True)
(folder / "dataset_info.json").write_text(json.dumps(INFO), encoding="utf-8")
(folder / "features.json").write_text(json.dumps(FEATURES), encoding="utf-8")
writer = ArrayRecordWriter(str(folder / "tiny-train.array_record-00000-of-00001"), "group_size:1")
for number in range(10):
    writer.write(b"\n\x0c\n\n\n\x01x\x12\x05\x1a\x03\n\x01" + bytes([number]))  # tf.train.Example of {"x": [number]}
writer.close()

source = {"type": "tfds", "name": "tiny", "split": "train", "data_dir": ".", "shuffle": True}
served = [x for batch in Pipeline.from_config({"batch_size": 4, "source": source}) for x in batch["x"].tolist()]
assert sorted(served) == list(range(10)) != served
