"""Security of descriptions: a data set's files choose no code that runs."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datarax_core.errors import DataFileError
from datarax_tfds import TFDSStreamingConfig, from_tfds
from datarax_tfds.dataset import DataSet

FOREIGN = "smells_beside_the_data.Smell"
DICT = "tensorflow_datasets.core.features.features_dict.FeaturesDict"

CODE = """
import sys
import numpy as np
import tensorflow_datasets as tfds
sys.flag_of_smells = True
class Smell(tfds.features.Scalar):
    def __init__(self, *args, **kwargs):
        super().__init__(np.int64)
    @classmethod
    def from_json_content(cls, value):
        return cls()
"""


def _features(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "features.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def _as_info(features: dict[str, Any], folder: Path) -> None:
    path = folder / "dataset_info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "features": features}))


def _within(features: dict[str, Any], feature: Any) -> dict[str, Any]:
    return {**features, "featuresDict": {"features": {**features["featuresDict"]["features"], "label": feature}}}


WAYS: dict[str, Callable[[Path], None]] = {
    "a field": lambda folder: _features(folder, lambda old: _within(old, {"pythonClassName": FOREIGN, "tensor": {}})),
    "protobuf's spelling": lambda folder: _features(
        folder, lambda old: _within(old, {"python_class_name": FOREIGN, "tensor": {}})
    ),
    "the whole": lambda folder: _features(folder, lambda _: {"pythonClassName": FOREIGN, "tensor": {}}),
    "an old version's form": lambda folder: _features(
        folder, lambda _: {"type": DICT, "content": {"label": {"type": FOREIGN, "content": {}}}}
    ),
    "JSON in JSON": lambda folder: _features(
        folder,
        lambda _: {
            "pythonClassName": DICT,
            "jsonFeature": {"json": " " + json.dumps({"label": {"type": FOREIGN, "content": {}}})},
        },
    ),
    "dataset_info.json": lambda folder: _as_info({"pythonClassName": FOREIGN, "tensor": {}}, folder),
}


@pytest.fixture
def folder(data_dirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of digits, with a module beside it that can be imported, and sets a flag when it is."""
    shutil.copytree(data_dirs / "tfrecord/digits", tmp_path / "digits")
    (tmp_path / "smells_beside_the_data.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delattr(sys, "flag_of_smells", raising=False)
    monkeypatch.delitem(sys.modules, "smells_beside_the_data", raising=False)
    return tmp_path / "digits/1.0.0"


@pytest.mark.parametrize("name_it", WAYS.values(), ids=WAYS)
def test_a_data_set_cannot_have_a_module_imported(folder: Path, name_it: Callable[[Path], None]) -> None:
    name_it(folder)
    match = (
        r"/digits/1\.0\.0/(features|dataset_info)\.json names the feature class 'smells_beside_the_data\.Smell', which is none "
        r"of TFDS's own: .* imports the module 'smells_beside_the_data' and runs its code; if you trust it, import it before"
    )
    for opened in (
        lambda: DataSet.open(TFDSStreamingConfig(name="digits", split="train", data_dir=folder.parents[1]), "source"),
        lambda: from_tfds("digits", "train", data_dir=str(folder)),
    ):
        with pytest.raises(DataFileError, match=match):
            opened()
    assert not hasattr(sys, "flag_of_smells")
    assert "smells_beside_the_data" not in sys.modules


def test_a_class_that_the_program_imported_itself_is_taken(folder: Path) -> None:
    __import__("smells_beside_the_data")
    WAYS["a field"](folder)
    found = DataSet.open(TFDSStreamingConfig(name="digits", split="train", data_dir=folder.parents[1]), "source")
    assert type(found.features["label"]).__name__ == "Smell"
