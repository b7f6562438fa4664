"""Data sets of TFDS where TensorFlow is not installed: read, prepared where that is possible, and refused where it is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import tfds_data
from environments import run

if TYPE_CHECKING:
    from conftest import MadeOnce

WITHOUT_TENSORFLOW = """
import importlib.util, json, logging, sys, tempfile
sys.path.append(sys.argv.pop(1))
logging.disable()
import datarax_tfds
assert importlib.util.find_spec("tensorflow") is None
assert "tensorflow_datasets" not in sys.modules
from datarax_core import Pipeline
from datarax_tfds import TFDSEagerConfig, TFDSEagerSource, TFDSStreamingConfig, TFDSStreamingSource, from_tfds
import tfds_made
def reported(data_dir, scratch):
    eager = TFDSEagerSource(TFDSEagerConfig(name="digits_png", split="train", data_dir=data_dir))
    stream = TFDSStreamingSource(TFDSStreamingConfig(name="captions", split="train[10%:]", data_dir=data_dir))
    labels = sum(batch["label"].sum().item() for batch in Pipeline(source=eager, batch_size=100))
    texts = [text.decode() for batch in Pipeline(source=stream, batch_size=10) for text in batch["text"]]
    made = from_tfds("made_numbers", "train", data_dir=scratch)
    try:
        from_tfds("made_images", "train", data_dir=scratch)
    except ImportError as error:
        return [eager.get_dataset_info()["full_name"], labels, texts[0], len(texts), len(made), str(error)]
with tempfile.TemporaryDirectory() as scratch:
    print(*(json.dumps(reported(folder, f"{scratch}/{n}")) for n, folder in enumerate(sys.argv[1:])), sep="\\n")
"""


def test_data_sets_are_prepared_and_read_without_tensorflow(
    proven: Callable[[str], Path], made_once: "MadeOnce", tmp_path: Path
) -> None:
    data_dirs = made_once("tfds", tfds_data.write_all)
    commands, importable = proven("core and datarax-tfds"), Path(tfds_data.__file__).parent
    folders = [data_dirs / file_format for file_format in tfds_data.FORMATS]
    ran = run(commands / "python", "-c", WITHOUT_TENSORFLOW, importable, *folders, cwd=tmp_path).stdout
    for line in ran.splitlines()[-len(folders) :]:
        name, labels, text, length, made, wants = json.loads(line)
        assert (name, labels, length, made) == ("digits_png/1.0.0", tfds_data.digit_labels()[:1500].sum(), 54, 40)
        assert text == tfds_data.caption(6)["text"]
        assert wants.startswith(
            "preparing data set 'made_images/1.0.0' needs TensorFlow, which is not installed; pip install"
        )
